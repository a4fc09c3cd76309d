"""Integrated gradients: the average gradient on the way from a baseline to the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.core.errors import UserError, check_whole_number
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult
from seewhy.explainers.completeness import BaselineExplainer, CompleteChannelExplainer
from seewhy.explainers.path_integrals import FEWEST, AdaptivePath, check_rule, compute_quadrature, walk_straight_path
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(CompleteChannelExplainer, BaselineExplainer):
    """(x - b) * integral from 0 to 1 of d score / d image at b + t (x - b) dt, summed over the channels.

    The memory does not depend on the number of steps. Facts: `n_steps`, the nodes used, and with `auto` also `map_error`, by
    which share of its L2 norm the map changed when their number was last doubled. Rules with a node at the baseline itself
    (riemann_left, trapezoid, `auto`) take a gradient at a flat image where the baseline is one colour: all values of a
    pooling window are equal there, and rounding decides which of them has the gradient. gauss_legendre has no such node.
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

    n_steps: int | str = 50
    rule: str = "gauss_legendre"
    max_steps: int = 1000
    map_tolerance: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rule(self.rule)
        if self.n_steps != "auto" and (not isinstance(self.n_steps, int) or self.n_steps < 1):
            raise UserError(f"explainer.n_steps={self.n_steps} must be auto or a whole number from 1")
        check_whole_number("explainer.max_steps", self.max_steps, FEWEST)
        if self.map_tolerance <= 0:
            raise UserError(
                f"explainer.map_tolerance={self.map_tolerance} must be above 0: it is a share, such as 0.05"
            )
        if self.n_steps != "auto":
            compute_quadrature(self.rule, int(self.n_steps))

    @property
    def parameters(self) -> str:
        """Without the rule where `auto` chooses its own nodes, and without the limit where it does not apply."""
        if self.n_steps == "auto":
            limits = f"tolerance={self.tolerance}, map_tolerance={self.map_tolerance}, max_steps={self.max_steps}"
            return f"baseline={self.baseline}, n_steps=auto, {limits}"
        return f"baseline={self.baseline}, n_steps={self.n_steps}, rule={self.rule}"

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
    words = f"the map has not converged: its estimated error {100 * error:.1f} % is over {100 * map_tolerance:g} %"
    return [f"{words} with at most {max_steps} steps; set explainer.max_steps"]
