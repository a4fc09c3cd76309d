"""Integrated gradients: the average gradient on the way from a baseline to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Attributions, Images, Targets
from seewhy.explainers.base import AttributionResult, CompleteExplainer
from seewhy.explainers.baselines import build_baselines, check_baseline
from seewhy.explainers.path_integrals import START, AdaptivePath, check_rule, compute_quadrature
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(CompleteExplainer):
    """(x - b) * integral from 0 to 1 of d logit / d image at b + t (x - b) dt, summed over the channels.

    `n_steps` is a number of nodes of `rule`, or `auto`: nodes are added, where the path bends most, until the relative
    completeness gap of each image is within `tolerance` or `max_steps` are used. Fact `n_steps`: nodes used. The
    memory does not depend on the number of steps.
    Sundararajan, Taly, Yan: Axiomatic attribution for deep networks, ICML 2017.
    """

    baseline: str = "black"
    n_steps: int | str = 50
    rule: str = "gauss_legendre"
    max_steps: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_baseline(self.baseline)
        check_rule(self.rule)
        if self.n_steps != "auto" and (not isinstance(self.n_steps, int) or self.n_steps < 1):
            raise UserError(f"explainer.n_steps={self.n_steps} must be auto or a whole number from 1")
        if not isinstance(self.max_steps, int) or self.max_steps <= START:
            raise UserError(f"explainer.max_steps={self.max_steps} must be a whole number from {START + 1}")
        if self.n_steps != "auto":
            compute_quadrature(self.rule, int(self.n_steps))

    @property
    def parameters(self) -> str:
        """Without the rule where `auto` chooses its own nodes, and without the limit where it does not apply."""
        if self.n_steps == "auto":
            return f"baseline={self.baseline}, n_steps=auto, tolerance={self.tolerance}, max_steps={self.max_steps}"
        return f"baseline={self.baseline}, n_steps={self.n_steps}, rule={self.rule}"

    def build_baselines(self, images: Images) -> Images:
        """The starting points of the paths."""
        return build_baselines(self.baseline, images, self.seed)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        per_channel, steps = self._integrate(evaluator, images, targets)
        return self.add_completeness(evaluator, self.reduce(per_channel), images, targets, {"n_steps": steps})

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """The attributions [batch, 3, height, width] without their completeness gap."""
        return self._integrate(evaluator, images, targets)[0]

    def reduce(self, per_channel: Images) -> Attributions:
        """Sum over the channels."""
        return per_channel.sum(1)

    def _integrate(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> tuple[Images, Tensor]:
        """(attributions for every channel, steps used [batch])."""
        baselines = self.build_baselines(images)
        if self.n_steps == "auto":
            return AdaptivePath(evaluator, images, baselines, targets).integrate(self.tolerance, self.max_steps)
        steps = torch.full((len(images),), int(self.n_steps), device=images.device)
        return self._fixed(evaluator, images, baselines, targets), steps

    def _fixed(self, evaluator: BatchedEvaluator, images: Images, baselines: Images, targets: Targets) -> Images:
        n_steps = int(self.n_steps)
        nodes, weights = (values.to(images) for values in compute_quadrature(self.rule, n_steps))
        difference = images - baselines
        average = torch.zeros_like(images)
        for probes in evaluator.split(len(images) * n_steps, gradient=True):
            image, step = probes // n_steps, probes % n_steps
            points = baselines[image] + nodes[step, None, None, None] * difference[image]
            gradient = evaluator.compute_gradient(points, targets[image])
            average.index_add_(0, image, weights[step, None, None, None] * gradient)
        return average * difference

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """One pass each way for each step, and two forwards for the completeness gap."""
        return None if self.n_steps == "auto" else (int(self.n_steps) + 2, int(self.n_steps))
