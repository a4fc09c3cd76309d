"""Linear models of the score over superpixels: LIME and Kernel SHAP."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le, MultipleOf
from numpy.typing import NDArray
from scipy.special import comb
from torch import Tensor
from torch.nn import functional

from seewhy.core.facts import select_display
from seewhy.core.random import seed_generator
from seewhy.core.settings import MANY, Count, CountFrom2, NonNegative, Positive
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.baselines import Baseline, build_baselines
from seewhy.explainers.completeness import BaselineExplainer
from seewhy.explainers.rounding import are_independent
from seewhy.explainers.superpixels import BLOCK, Coalitions, segment_images
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class Lime(Explainer):
    """The coefficient of each pixel's superpixel in a ridge regression of the score on which superpixels are visible.

    The first sample is the whole image, in the others each superpixel is replaced by the baseline with probability 1/2. A
    sample at cosine distance d from the whole image weighs sqrt(exp(-d^2 / kernel_width^2)). Facts: `n_segments`, the
    number of superpixels, `fit_r2`, the weighted share of the scores' variance that the linear model explains, and
    `floor`, what the scores' rounding makes of a coefficient.
    Ribeiro, Singh, Guestrin: "Why should I trust you?", KDD 2016.

    Args:
        n_segments: About how many SLIC superpixels, from 1.
        n_samples: Images that the network sees, from 2, better 20 for each superpixel.
        kernel_width: Of the weights of the samples, in cosine distance, above 0.
        alpha: Penalty of the squared coefficients, not of the intercept; 0: least squares.
        baseline: What covers superpixels: black, white, grey, mean, blurred, noise or uniform.
    """

    n_segments: Count = 50
    n_samples: CountFrom2 = 1000
    kernel_width: Positive = 0.25
    alpha: NonNegative = 1.0
    baseline: Baseline = "black"

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        labels, counts = segment_images(select_display(images, evaluator.classifier.facts.display), self.n_segments)
        cover = build_baselines(self.baseline, images, self.seed)
        coalitions = Coalitions(evaluator, images, cover, labels, targets)
        generators = [seed_generator(self.seed, image, "lime") for image in images]
        fits = [RidgeRegression(count, self.kernel_width) for count in counts]
        rounding = torch.zeros(len(images), dtype=torch.float64)
        for start in range(0, self.n_samples, BLOCK):
            samples = min(BLOCK, self.n_samples - start)
            visible = torch.zeros(len(images), samples, max(counts), dtype=torch.bool)
            for row, (count, generator) in enumerate(zip(counts, generators, strict=True)):
                drawn = torch.rand(BLOCK, count, generator=generator, dtype=torch.float32)
                visible[row, :, :count] = drawn[:samples] < 0.5
            visible[:, 0] |= start == 0
            image = torch.arange(len(images)).repeat_interleave(samples)
            scores, bounds = coalitions.compute_scores(image, visible.flatten(0, 1))
            scores = scores.view(len(images), samples)
            rounding = torch.maximum(rounding, bounds.view(len(images), samples).amax(1))
            for row, (count, fit) in enumerate(zip(counts, fits, strict=True)):
                fit.add(visible[row, :, :count].numpy(), scores[row].numpy())
        values = torch.zeros(len(images), max(counts), dtype=torch.float64)
        for row, (count, fit) in enumerate(zip(counts, fits, strict=True)):
            values[row, :count] = torch.from_numpy(fit.solve(self.alpha))
        maps = values.to(images).gather(1, labels.flatten(1)).view(labels.shape)
        quality = torch.tensor([fit.compute_r2(self.alpha) for fit in fits])
        independent = are_independent(evaluator.classifier)
        gains = torch.tensor([fit.bound_gain(self.alpha, independent) for fit in fits], dtype=torch.float64)
        return AttributionResult(maps, {"n_segments": torch.tensor(counts), "fit_r2": quality}, rounding * gains)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One forward for each sample."""
        return self.n_samples, 0


class RidgeRegression:
    """Weighted ridge regression with an intercept, in float64, from sums alone: samples come in blocks.

    Args:
        count: Number of superpixels.
        kernel_width: Of the weights of the samples, in cosine distance.
    """

    def __init__(self, count: int, kernel_width: float) -> None:
        self.kernel_width = kernel_width
        self.moments = np.zeros((count + 2, count + 2))
        """Weighted sums of the products of (1, visible superpixels, score - first score)."""
        self.first: float | None = None

    def add(self, visible: NDArray[np.bool_], scores: NDArray[np.float64]) -> None:
        """Add samples bool [n, superpixels] with their scores [n]."""
        self.first = float(scores[0]) if self.first is None else self.first
        distance = 1 - np.sqrt(visible.mean(1))
        weights = np.exp(-(distance**2) / (2 * self.kernel_width**2))
        table = np.column_stack([np.ones(len(scores)), visible, scores - self.first])
        self.moments += (table * weights[:, None]).T @ table

    def solve(self, alpha: float) -> NDArray[np.float64]:
        """Compute the coefficient of each superpixel; of equally good ones the shortest vector."""
        centred = self._centre()
        penalised = centred[:-1, :-1] + alpha * np.eye(len(centred) - 1)
        return np.asarray(np.linalg.lstsq(penalised, centred[:-1, -1], rcond=1e-12)[0], np.float64)

    def compute_r2(self, alpha: float) -> float:
        """Compute 1 - weighted squared error / weighted variance of the scores; 0 where all scores are equal."""
        centred, values = self._centre(), np.append(-self.solve(alpha), 1)
        spread = centred[-1, -1]
        return float(1 - values @ centred @ values / spread) if spread > 0 else 0.0

    def bound_gain(self, alpha: float, independent: bool = False) -> float:
        """Bound how much larger than the scores' rounding that of a coefficient can be.

        The coefficients are A y with the weights W of the samples inside A; the sum of |A_ik| over the samples k is at
        most sqrt(sum of W * (P^-1 C P^-1)_ii), C being the centred moments and P = C + alpha. Rounding of a difference
        counts twice the rounding of a score, hence the half. Independent roundings make no more than the root of the sum
        of A_ik^2, at most that of (P^-1 C P^-1)_ii, since no weight is above 1; of them the difference counts whole.
        """
        centred = self._centre()[:-1, :-1]
        inverse = np.linalg.pinv(centred + alpha * np.eye(len(centred)), rcond=1e-12)
        spread = np.diag(inverse @ centred @ inverse).max(initial=0.0)
        most = 1.0 if independent else self.moments[0, 0] / 4
        return float(np.sqrt(most * max(spread, 0.0)))

    def _centre(self) -> NDArray[np.float64]:
        """The moments around the weighted means, without the intercept."""
        sums = self.moments[0, 1:]
        return self.moments[1:, 1:] - np.outer(sums, sums) / self.moments[0, 0]


EXACT = 11
"""Up to this number of superpixels all coalitions are evaluated: at most 2046."""


@dataclass(frozen=True, kw_only=True)
class KernelShap(BaselineExplainer):
    """The Shapley value of each pixel's superpixel, spread evenly over its pixels: the map sums to f(x) - f(b).

    Minimises the sum over coalitions z of (f(z) - f(b) - z . values)^2 under that constraint, f(z) being the score of
    the image whose other superpixels show the baseline. With M superpixels a coalition of s weighs
    (M - 1) / (binomial(M, s) s (M - s)). Up to 11 superpixels all are evaluated and the values are exact; otherwise
    coalitions are drawn in proportion to their weight, each followed by its complement. Facts: `n_segments`, the number of
    superpixels, and `floor`, the most that rounding can make of a pixel's value.
    Lundberg, Lee: A unified approach to interpreting model predictions, NeurIPS 2017; paired samples: Covert, Lee:
    Improving KernelSHAP, AISTATS 2021.

    Args:
        n_segments: About how many SLIC superpixels, from 1.
        n_samples: Coalitions that are drawn where there are more than 11 superpixels; even, from 2.
    """

    n_segments: Count = 50
    n_samples: Annotated[int, Ge(2), Le(MANY), MultipleOf(2)] = 1000

    @property
    def parameters(self) -> str:
        """Superpixels, coalitions and what covers."""
        return f"n_segments={self.n_segments}, n_samples={self.n_samples}, baseline={self.baseline}"

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        labels, counts = segment_images(select_display(images, evaluator.classifier.facts.display), self.n_segments)
        cover = self.build_baselines(images)
        ends = evaluator.compute_scores(torch.cat([images, cover]), targets.repeat(2)).cpu().double()
        full, empty = ends[: len(images)], ends[len(images) :]
        coalitions = Coalitions(evaluator, images, cover, labels, targets)
        generators = [seed_generator(self.seed, image, "kernel_shap") for image in images]
        draws = [draw_coalitions(count, self.n_samples, each) for count, each in zip(counts, generators, strict=True)]
        fits = [ShapleyRegression(count) for count in counts]
        rounding = torch.zeros(len(images), dtype=torch.float64)
        while blocks := {row: block for row, draw in enumerate(draws) if (block := next(draw, None)) is not None}:
            image = torch.tensor(list(blocks)).repeat_interleave(torch.tensor([len(w) for _, w in blocks.values()]))
            padded = [functional.pad(visible, (0, max(counts) - visible.shape[1])) for visible, _ in blocks.values()]
            scores, bounds = coalitions.compute_scores(image, torch.cat(padded))
            scores = scores - empty[image]
            for row, (visible, weights) in blocks.items():
                rounding[row] = torch.cat([rounding[row, None], bounds[image == row]]).amax()
                fits[row].add(visible.numpy(), weights.numpy(), scores[image == row].numpy())
        changes = (full - empty).tolist()
        maps = [
            spread_evenly(fit.solve(change), each)
            for fit, change, each in zip(fits, changes, labels.cpu(), strict=True)
        ]
        change = self.compute_change(evaluator, images, targets)
        result = self.add_completeness(torch.stack(maps).to(images), change, {"n_segments": torch.tensor(counts)})
        floors = [
            spread_evenly(fit.bound_rounding(float(bound), are_independent(evaluator.classifier)), each)
            for fit, bound, each in zip(fits, change.rounding.cpu().maximum(rounding), labels.cpu(), strict=True)
        ]
        return dataclasses.replace(result, floor=torch.stack(floors).to(images))

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """Forwards for samples, both ends and the completeness gap; None where all coalitions may be evaluated."""
        return None if self.n_segments <= 2 * EXACT else (self.n_samples + 4, 0)


def spread_evenly(values: NDArray[np.float64], labels: Tensor) -> Tensor:
    """Spread each superpixel's value evenly over its pixels: float64 [height, width] with the same sum."""
    areas = torch.bincount(labels.flatten(), minlength=len(values))
    return (torch.from_numpy(values) / areas)[labels]


def draw_coalitions(count: int, n_samples: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw coalitions of superpixels, neither the empty nor the full one.

    All of them with the weights of the Shapley kernel up to `EXACT` superpixels, otherwise `n_samples` drawn ones.

    Args:
        count: Number of superpixels.
        n_samples: How many to draw.
        generator: Of the image.

    Yields:
        Blocks of coalitions bool [n, count], with their weights float64 [n].
    """
    sizes = torch.arange(1, count, dtype=torch.float64)
    share = 1 / (sizes * (count - sizes))
    if count <= EXACT:
        numbers = torch.arange(1, 2**count - 1)
        visible = (numbers[:, None] >> torch.arange(count)) % 2 == 1
        weights = share / torch.from_numpy(comb(count, sizes.numpy()))
        weights = weights[visible.sum(1) - 1] if count > 1 else visible.sum(1).double()
        yield from zip(visible.split(BLOCK), weights.split(BLOCK), strict=True)
        return
    for start in range(0, n_samples, BLOCK):
        pairs = min(BLOCK, n_samples - start) // 2
        size = 1 + torch.multinomial(share, BLOCK // 2, replacement=True, generator=generator)[:pairs]
        ranks = torch.rand(BLOCK // 2, count, generator=generator, dtype=torch.float32)[:pairs].argsort(1).argsort(1)
        first = ranks < size[:, None]
        yield torch.stack([first, ~first], 1).flatten(0, 1), torch.ones(2 * pairs, dtype=torch.float64)


class ShapleyRegression:
    """Weighted least squares under the constraint that the values add up to the change, from sums alone.

    Args:
        count: Number of superpixels.
    """

    def __init__(self, count: int) -> None:
        self.products = np.zeros((count, count))
        self.responses = np.zeros(count)
        self.weight = 0.0
        self.heaviest = 0.0

    def add(self, visible: NDArray[np.bool_], weights: NDArray[np.float64], gains: NDArray[np.float64]) -> None:
        """Add coalitions bool [n, count], their weights [n] and f(z) - f(b) [n]."""
        weighted = visible * weights[:, None]
        self.weight += float(weights.sum())
        self.heaviest = max(self.heaviest, float(weights.max(initial=0.0)))
        self.products += weighted.T @ visible
        self.responses += weighted.T @ gains

    def solve(self, change: float) -> NDArray[np.float64]:
        """Compute the value of each superpixel; they sum to `change`. With too few samples the nearest to equal values."""
        count = len(self.responses)
        equal = np.full(count, change / count)
        centre = np.eye(count) - 1 / count
        residual = centre @ (self.responses - self.products @ equal)
        offset = np.linalg.lstsq(centre @ self.products @ centre, residual, rcond=1e-10)[0]
        return equal + offset - offset.mean()

    def bound_rounding(self, rounding: float, independent: bool = False) -> NDArray[np.float64]:
        """Bound what rounding makes of each value: that of its equal share, and of the regression over gains f(z) - f(b).

        The sum over the samples k of the |weights| of gain k in value i is at most sqrt(sum of W * (C^+)_ii) with the
        centred moments C of the samples' weights W; of independent roundings the root of the sum of their squares counts,
        at most sqrt(largest W * (C^+)_ii).
        """
        count = len(self.responses)
        centre = np.eye(count) - 1 / count
        inverse = np.diag(np.linalg.pinv(centre @ self.products @ centre, rcond=1e-10, hermitian=True))
        most = self.heaviest if independent else self.weight
        return np.asarray(rounding * (1 / count + np.sqrt(most * np.clip(inverse, 0, None))), np.float64)
