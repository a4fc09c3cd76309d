"""Integrated gradients: the average gradient on the way from a baseline to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.core.errors import UserError, check_whole_number
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult
from seewhy.explainers.completeness import BaselineExplainer, CompleteChannelExplainer
from seewhy.explainers.path_integrals import START, AdaptivePath, check_rule, compute_quadrature, walk_straight_path
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(CompleteChannelExplainer, BaselineExplainer):
    """(x - b) * integral from 0 to 1 of d score / d image at b + t (x - b) dt, summed over the channels.

    The memory does not depend on the number of steps. Fact `n_steps`: nodes used. Rules with a node at the baseline itself
    (riemann_left, trapezoid, `auto`) take a gradient at a flat image where the baseline is one colour: all values of a
    pooling window are equal there, and rounding decides which of them has the gradient. gauss_legendre has no such node.
    Sundararajan, Taly, Yan: Axiomatic attribution for deep networks, ICML 2017.

    Args:
        n_steps: Nodes of the path integral, from 1; or `auto`: nodes are added, where the path bends most, until the
            relative completeness gap of each image is within `tolerance` or `max_steps` are used.
        rule: Of the integral, where `n_steps` is a number: gauss_legendre, riemann_left, riemann_middle, riemann_right or
            trapezoid.
        max_steps: Most nodes of an image where `n_steps=auto`, from 5.
    """

    n_steps: int | str = 50
    rule: str = "gauss_legendre"
    max_steps: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rule(self.rule)
        if self.n_steps != "auto" and (not isinstance(self.n_steps, int) or self.n_steps < 1):
            raise UserError(f"explainer.n_steps={self.n_steps} must be auto or a whole number from 1")
        check_whole_number("explainer.max_steps", self.max_steps, START + 1)
        if self.n_steps != "auto":
            compute_quadrature(self.rule, int(self.n_steps))

    @property
    def parameters(self) -> str:
        """Without the rule where `auto` chooses its own nodes, and without the limit where it does not apply."""
        if self.n_steps == "auto":
            return f"baseline={self.baseline}, n_steps=auto, tolerance={self.tolerance}, max_steps={self.max_steps}"
        return f"baseline={self.baseline}, n_steps={self.n_steps}, rule={self.rule}"

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """Integrate the gradient, without measuring the completeness gap."""
        return self._integrate(evaluator, images, targets)[0]

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        attributions, steps = self._integrate(evaluator, images, targets)
        change = self.compute_change(evaluator, images, targets)
        return self.add_completeness(self.reduce(attributions), change, {"n_steps": steps})

    def _integrate(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> tuple[Images, Tensor]:
        """(attributions for every channel, nodes used [batch])."""
        baselines = self.build_baselines(images)
        if self.n_steps == "auto":
            return AdaptivePath(evaluator, images, baselines, targets).integrate(self.tolerance, self.max_steps)
        n_steps, average = int(self.n_steps), torch.zeros_like(images)
        for image, weights, points in walk_straight_path(evaluator, images, baselines, self.rule, n_steps):
            gradient = evaluator.compute_gradient(points, targets[image])
            average.index_add_(0, image, weights[:, None, None, None] * gradient)
        return average * (images - baselines), torch.full((len(images),), n_steps, device=images.device)

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """One pass each way for each step, and two forwards for the completeness gap."""
        return None if self.n_steps == "auto" else (int(self.n_steps) + 2, int(self.n_steps))
