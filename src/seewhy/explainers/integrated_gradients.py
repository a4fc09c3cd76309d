"""Integrated gradients on a straight path, from a blurred image, and on a guided path."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from seewhy.core.random import seed_generator
from seewhy.core.settings import MANY, Auto, Count, CountFrom2, OneOf, Positive, Share, UnitInterval, refuse_unread
from seewhy.core.tensors import compute_pearson, iterate_runs
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult
from seewhy.explainers.baselines import RANDOM_BASELINES
from seewhy.explainers.completeness import BaselineExplainer, CompleteChannelExplainer, ScoreChange, compare_scores
from seewhy.explainers.guided_path import Goal, advance
from seewhy.explainers.path_integrals import (
    FEWEST,
    AdaptivePath,
    Rule,
    compute_quadrature,
    find_first_point,
    walk_straight_path,
)
from seewhy.explainers.rounding import estimate_relative_rounding
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(CompleteChannelExplainer, BaselineExplainer):
    """(x - b) * integral from 0 to 1 of d score / d image at b + t (x - b) dt, summed over the channels.

    The memory does not depend on the number of steps. Facts: `n_steps`, the nodes used, and with `auto` also `map_error`, by
    which share of its L2 norm the map changed when their number was last doubled. Rules with a node at the baseline itself
    (riemann_left, trapezoid, `auto`) take that gradient a little way along the path, at the root of the precision: in a
    baseline of one colour all values of a pooling window are equal, and rounding would decide which of them has it.
    Sundararajan, Taly, Yan: Axiomatic attribution for deep networks, ICML 2017.

    Args:
        n_steps: Nodes of the path integral, from 1; or `auto`: nodes are added, first where the path bends most, until the
            estimated error of the map is within `map_tolerance` and the relative completeness gap within `tolerance`, or
            until twice as many nodes would be more than `max_steps`.
        rule: Of the integral, where `n_steps` is a number: gauss_legendre, riemann_left, riemann_middle, riemann_right or
            trapezoid.
        max_steps: Most nodes of an image where `n_steps=auto`, from 9.
        map_tolerance: Where `n_steps=auto`, the relative L2 error of the map that is accepted, above 0.
    """

    n_steps: Count | Auto = 50
    rule: Rule = "gauss_legendre"
    max_steps: Annotated[int, Ge(FEWEST), Le(MANY)] = 1000
    map_tolerance: Positive = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_steps == "auto":
            refuse_unread(self, "explainer", ("rule",), "with n_steps=auto, which chooses its own nodes")
        else:
            unread = ("max_steps", "map_tolerance")
            refuse_unread(self, "explainer", unread, f"with n_steps={self.n_steps}, but with n_steps=auto")
            compute_quadrature(self.rule, int(self.n_steps))

    @property
    def parameters(self) -> str:
        """Without the rule where `auto` chooses its own nodes, and without the limit where it does not apply."""
        if self.n_steps == "auto":
            limits = f"tolerance={self.tolerance}, map_tolerance={self.map_tolerance}, max_steps={self.max_steps}"
            return f"baseline={self.baseline}, n_steps=auto, {limits}"
        return f"baseline={self.baseline}, n_steps={self.n_steps}, rule={self.rule}"

    @property
    def is_local(self) -> bool:  # type: ignore[override]
        """What is flat in an image is flat all along the path, unless the baseline is drawn at random."""
        return self.baseline not in RANDOM_BASELINES

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """Integrate the gradient, without measuring the completeness gap."""
        return self.integrate(evaluator, images, targets)[0]

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        attributions, facts = self.integrate(evaluator, images, targets)
        change = self.compute_change(evaluator, images, targets)
        return self.add_completeness(self.reduce(attributions), change, facts)

    def list_warnings(self, facts: Mapping[str, float]) -> list[str]:
        """List a gap, or an estimated error of the map, that is over its tolerance.

        Args:
            facts: Those of one map.

        Returns:
            At most two sentences.
        """
        return super().list_warnings(facts) + describe_map_error(facts, self.map_tolerance, self.max_steps)

    def integrate(
        self, evaluator: BatchedEvaluator, images: Images, targets: Targets
    ) -> tuple[Images, dict[str, Tensor]]:
        """Integrate the gradient.

        Args:
            evaluator: Runs the network in batches of bounded size.
            images: Float [batch, channels, height, width] in [0, 1].
            targets: A target for each image.

        Returns:
            (attributions for every channel, facts [batch]: `n_steps`, and `map_error` of an adaptive path).
        """
        baselines = self.build_baselines(images)
        if self.n_steps == "auto":
            path = AdaptivePath(evaluator, images, baselines, targets)
            integral = path.integrate(self.tolerance, self.map_tolerance, self.max_steps)
            return integral.values, {"n_steps": integral.nodes, "map_error": integral.map_error.to(images)}
        n_steps, average = int(self.n_steps), torch.zeros_like(images)
        for image, weights, points in walk_straight_path(evaluator, images, baselines, self.rule, n_steps):
            gradient = evaluator.compute_gradient(points, targets[image])
            average.index_add_(0, image, weights[:, None, None, None] * gradient)
        return average * (images - baselines), {"n_steps": torch.full((len(images),), n_steps, device=images.device)}

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """One pass each way for each step, and two forwards for the completeness gap."""
        return None if self.n_steps == "auto" else (int(self.n_steps) + 2, int(self.n_steps))


def describe_map_error(facts: Mapping[str, float], map_tolerance: float, max_steps: int) -> list[str]:
    """Describe an estimated error of the map that is over its tolerance.

    Args:
        facts: Of one map; without `map_error` there is nothing to describe.
        map_tolerance: The largest error that needs no warning.
        max_steps: The limit that ended the path.

    Returns:
        At most one sentence.
    """
    error = facts.get("map_error", 0.0)
    if error <= map_tolerance:
        return []
    words = f"the map has not converged with at most {max_steps} steps: its estimated error"
    return [f"{words} {100 * error:.1f} % exceeds the {100 * map_tolerance:g} % tolerance; set explainer.max_steps"]


NEGLIGIBLE = 1e-8
"""Share of a frequency below which the blur has removed it."""


@dataclass(frozen=True, kw_only=True)
class BlurIg(CompleteChannelExplainer):
    """Integral from sigma = max_sigma to 0 of d score / d x(sigma) * d x(sigma) / d sigma, summed over the channels.

    x(sigma) is the image after a Gaussian blur of that many pixels, mirrored at its borders. The integral is a
    trapezoid sum with differences of blurred images; they lie closer together the sharper the image:
    sigma_k = max_sigma (k / (n_steps - 1))^2. The map adds up to f(image) - f(most blurred image): nothing but the image's
    own detail is credited.
    Xu, Venugopalan, Sundararajan: Attribution in scale and space, CVPR 2020.

    Args:
        n_steps: Values of sigma, from 2.
        max_sigma: Strongest blur in pixels, above 0; None: 50 at 224 pixels, in proportion to the shorter side.
    """

    n_steps: CountFrom2 = 100
    max_sigma: Positive | None = None

    def build_baselines(self, images: Images) -> Images:
        """Blur the images as much as the path does at its start.

        Args:
            images: Float [batch, channels, height, width] in [0, 1].

        Returns:
            Blurred images of the same shape.
        """
        return Blur(images)(torch.arange(len(images)), self._list_sigmas(images)[-1:].expand(len(images)))

    def compute_change(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> ScoreChange:
        """Compute f(image) - f(most blurred image) with two forward passes for each image."""
        return compare_scores(evaluator, images, self.build_baselines(images), targets)

    def _list_sigmas(self, images: Images) -> Tensor:
        """The blurs [n_steps] in pixels, from none to the strongest."""
        strongest = self.max_sigma or min(images.shape[2:]) * 50 / 224
        return strongest * torch.linspace(0, 1, self.n_steps, dtype=images.dtype, device=images.device) ** 2

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """Integrate the gradient, without measuring the completeness gap."""
        sigmas, blur, total = self._list_sigmas(images), Blur(images), len(images) * self.n_steps
        attributions = torch.zeros_like(images)
        blurred, begin, end = images[:0], 0, 0  # the nodes from `begin` to `end`: each is blurred once
        for nodes in evaluator.split(total, gradient=True):
            first, last = int(nodes[0]), int(nodes[-1])
            further = torch.arange(end, max(end, min(last + 2, total)), device=images.device)
            kept = blurred[max(0, first - 1) - begin :]
            if len(further):
                blurred = torch.cat([kept, blur(further // self.n_steps, sigmas[further % self.n_steps])])
                begin, end = end - len(kept), end + len(further)
            image = nodes // self.n_steps
            before = torch.maximum(nodes - 1, image * self.n_steps) - begin
            behind = torch.minimum(nodes + 1, (image + 1) * self.n_steps - 1) - begin
            here, movement = blurred[first - begin :][: len(nodes)], blurred[before].sub_(blurred[behind])
            gradient = evaluator.compute_gradient(here, targets[image])
            attributions.index_add_(0, image, movement.mul_(gradient), alpha=0.5)
        return attributions

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way for each step, and two forwards for the completeness gap."""
        return self.n_steps + 2, self.n_steps


class Blur:
    """Gaussian blur of any strength at the cost of the frequencies that it leaves.

    Mirroring at the borders makes the cosine transform diagonalise the blur: frequency w is left the share
    exp(-(sigma w)^2 / 2). Frequencies that the blur removes from all images of a batch take no part in the transform back.

    Args:
        images: Float [batch, channels, height, width].
    """

    def __init__(self, images: Images) -> None:
        self.rows, self.columns = _build_cosines(images.shape[2]).to(images), _build_cosines(images.shape[3]).to(images)
        self.spectrum = self.rows @ images @ self.columns.T

    def __call__(self, image: Tensor, sigmas: Tensor) -> Images:
        """Blur images [n, channels, height, width]: their indices [n] and a blur in pixels for each."""
        sigmas = sigmas.to(self.spectrum)
        high, wide = self._compute_shares(self.rows, sigmas), self._compute_shares(self.columns, sigmas)
        spectrum = self.spectrum[:, :, : high.shape[1], : wide.shape[1]]
        left = spectrum.new_empty(len(image), *spectrum.shape[1:])
        for item, rows in iterate_runs(image):
            torch.mul(spectrum[item], high[rows, None, :, None], out=left[rows])
        planes = left.mul_(wide[:, None, None]).flatten(0, 1)
        blurred = torch.bmm(self.rows[: high.shape[1]].T.expand(len(planes), -1, -1), planes)
        return (blurred @ self.columns[: wide.shape[1]]).unflatten(0, left.shape[:2])

    @staticmethod
    def _compute_shares(cosines: Tensor, sigmas: Tensor) -> Tensor:
        """Shares [n, frequencies] that the blurs leave of the lowest frequencies, those that are not negligible."""
        side = len(cosines)
        frequencies = torch.arange(side, dtype=cosines.dtype, device=cosines.device) * (math.pi / side)
        shares = torch.exp(-((sigmas[:, None] * frequencies) ** 2) / 2)
        return shares[:, : int((shares.amax(0) > NEGLIGIBLE).sum())]


def _build_cosines(side: int) -> Tensor:
    """The orthonormal cosine transform [frequencies, positions] of `side` samples (DCT-II)."""
    positions = (torch.arange(side, dtype=torch.float64) + 0.5) * (math.pi / side)
    waves = torch.cos(torch.arange(side, dtype=torch.float64)[:, None] * positions) * math.sqrt(2 / side)
    waves[0] /= math.sqrt(2)
    return waves


RULES = ("trapezoid", "riemann_left")
CHECKS = 10
"""How often maps of two paths that differ by rounding are compared."""
UNLIKE, DECIDED = 0.9, 0.99
"""Correlation of these maps below which the second path is left, and below which a map has a warning."""


@dataclass(frozen=True, kw_only=True)
class GuidedIg(CompleteChannelExplainer, BaselineExplainer):
    """Sum over steps of gradient * movement, where each step moves the values with the smallest gradients first.

    Every step shortens the L1 distance to the image by 1 / `n_steps`: of the values (pixel and channel) those with the
    smallest |gradient| move towards the image, then the next, until that is reached. The steps follow one another, so that
    a pass holds one point of each image. The first gradient is taken a little way along the straight path, as integrated
    gradients take it.

    Rounding orders gradients that are nearly equal, each step follows from the one before, and behind rectifiers paths that
    differ by rounding soon go apart: the farther `max_distance` lets them stray, the farther. So a second path is walked
    beside the first, its values and the order of its gradients off by as much as rounding can make of them
    (`rounding.estimate_relative_rounding`), until the two maps so far are no longer alike. Facts: `rounding_correlation`,
    Pearson's correlation of the two, and `rounding_steps`, after how many steps it was taken. Below 0.99 it is a warning.

    Kapishnikov, Venugopalan, Avci, Wedin, Terry, Bolukbasi: Guided integrated gradients, CVPR 2021.

    Args:
        n_steps: Steps of the path, from 1.
        fraction: Share of the values that move together, above 0 and at most 1.
        max_distance: How far a value may stray from the straight path, as a share of its way: 0 is the straight path of
            integrated gradients, 1 no bound.
        rule: The gradient of a step: `trapezoid`, the mean of those at its two ends, which comes much closer to
            completeness, or `riemann_left`, that at its start, as published.
        tolerance: Relative completeness gap, above 0, from which a map has a warning.
        check_rounding: Whether the second path is walked, which takes a tenth more passes where rounding decides the map,
            and up to as many again where it does not.
    """

    n_steps: Count = 200
    fraction: Share = 0.25
    max_distance: UnitInterval = 0.02
    rule: Annotated[str, OneOf(RULES)] = "trapezoid"
    tolerance: Positive = 0.05
    check_rounding: bool = True

    unprinted: ClassVar[frozenset[str]] = CompleteChannelExplainer.unprinted | {"check_rounding"}

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """Integrate the gradient along the path, without measuring the completeness gap or what rounding decides."""
        baselines = self.build_baselines(images)
        difference = images - baselines
        (slopes,) = deque(self._walk(evaluator, baselines, difference, targets), maxlen=1)
        return slopes * difference

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        if not self.check_rounding or self.max_distance == 0:
            return super()._attribute(evaluator, images, targets)
        baselines = self.build_baselines(images)
        difference = images - baselines
        twin = self._walk(evaluator, baselines, difference, targets, _draw_rounding(evaluator, images, self.seed))
        correlation = torch.ones(len(images), dtype=torch.float64, device=images.device)
        steps, alike = torch.zeros_like(correlation), torch.ones_like(correlation, dtype=torch.bool)
        for step, slopes in enumerate(self._walk(evaluator, baselines, difference, targets), 1):
            if bool(alike.any()):
                other = next(twin)
                if step % math.ceil(self.n_steps / CHECKS) == 0 or step == self.n_steps:
                    maps = [self.reduce(each * difference).flatten(1) for each in (slopes, other)]
                    measured = compute_pearson(*maps)
                    correlation = torch.where(alike & measured.isfinite(), measured, correlation)
                    steps = torch.where(alike, step, steps)
                    alike &= correlation >= UNLIKE
        facts = {"rounding_correlation": correlation, "rounding_steps": steps}
        channels = slopes * difference
        return self.add_completeness(self.reduce(channels), self.compute_change(evaluator, images, targets), facts)

    def list_warnings(self, facts: Mapping[str, float]) -> list[str]:
        """List a completeness gap over the tolerance, and a map that rounding decides."""
        warnings = super().list_warnings(facts)
        correlation = facts.get("rounding_correlation", 1.0)
        if correlation < DECIDED:
            warnings.append(
                f"rounding decides the map: off by what rounding can make of its values, the path gives another one "
                f"(correlation {correlation:.2f} after {facts['rounding_steps']:.0f} of {self.n_steps} steps); "
                f"a smaller explainer.max_distance than {self.max_distance:g} keeps paths together"
            )
        return warnings

    def _walk(
        self,
        evaluator: BatchedEvaluator,
        baselines: Images,
        difference: Images,
        targets: Targets,
        rounding: Images | None = None,
    ) -> Iterator[Images]:
        """The attributions so far, without the factor difference, after each step of the path from the baselines.

        With `rounding` the differences are off by that share, and the gradients that order a step by that share of their
        mean.
        """
        difference = difference if rounding is None else difference * (1 + rounding)
        lengths = difference.flatten(1).abs()
        position, attributions = (lengths == 0).to(lengths), torch.zeros_like(lengths)
        movement, left = torch.zeros_like(lengths), 0.5 if self.rule == "trapezoid" else 1.0
        first = find_first_point(lengths)
        for step in range(self.n_steps):
            points = torch.addcmul(baselines, position.clamp_min(first).view_as(difference), difference)
            gradient = evaluator.compute_gradient(points, targets).flatten(1)
            strength = gradient.abs()
            if rounding is not None:
                strength.addcmul_(rounding.flatten(1), strength.mean(1, keepdim=True)).abs_()
            moved = self._advance(position, strength, lengths, step)
            attributions.addcmul_(movement, gradient, value=1 - left)
            movement = moved - position
            attributions.addcmul_(movement, gradient, value=left)
            position = moved
            if step == self.n_steps - 1 and self.rule == "trapezoid":
                ends = evaluator.compute_gradient(baselines + difference, targets).flatten(1)
                attributions.addcmul_(movement, ends, value=0.5)
            yield attributions.view_as(difference)

    def _advance(self, position: Tensor, strength: Tensor, lengths: Tensor, step: int) -> Tensor:
        """Where on their way from 0 to 1 the values [batch, values] are after a step; `strength` is overwritten."""
        share = (step + 1) / self.n_steps
        low, high = max(share - self.max_distance, 0.0), min(share + self.max_distance, 1.0)
        count = math.floor(self.fraction * (lengths.shape[1] - 1)) + 1
        return advance(position, strength, lengths, Goal(share, low, high, count))

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """One pass each way for each point of the path, and two forwards for the completeness gap; not known with a twin."""
        if self.check_rounding and self.max_distance > 0:
            return None
        points = self.n_steps + (self.rule == "trapezoid")
        return points + 2, points


def _draw_rounding(evaluator: BatchedEvaluator, images: Images, seed: int) -> Images:
    """What rounding may make of a value, as a share of it, with a random sign for each value and image."""
    generators = [seed_generator(seed, image, "rounding") for image in images]
    signs = torch.stack([torch.randint(2, images.shape[1:], generator=each) * 2 - 1 for each in generators])
    return signs.to(images) * estimate_relative_rounding(evaluator.classifier, images)
