"""Guided integrated gradients: a path to the image along which the score changes as little as possible."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Attributions, Images, Targets
from seewhy.explainers.base import AttributionResult, CompleteExplainer
from seewhy.explainers.baselines import build_baselines, check_baseline
from seewhy.models.batched import BatchedEvaluator

RULES = ("trapezoid", "riemann_left")
CLOSE = 1e-6
"""Share of a path within which a step has arrived: what single precision can tell."""


@dataclass(frozen=True, kw_only=True)
class GuidedIg(CompleteExplainer):
    """Sum over steps of gradient * movement, where each step moves the values with the smallest gradients first.

    Every step shortens the L1 distance to the image by 1 / `n_steps`: of the values (pixel and channel) the `fraction`
    with the smallest |gradient| moves towards the image, then the next, until that is reached. No value strays from the
    straight path by more than `max_distance` (0: the straight path of integrated gradients, 1: no bound). The steps
    follow one another, so that a pass holds one point of each image. The gradient of a step is the mean of those at its
    two ends, which comes much closer to completeness than the one at its start (`rule=riemann_left`, as published).
    Kapishnikov, Venugopalan, Avci, Wedin, Terry, Bolukbasi: Guided integrated gradients, CVPR 2021.
    """

    baseline: str = "black"
    n_steps: int = 200
    fraction: float = 0.25
    max_distance: float = 0.02
    rule: str = "trapezoid"
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_baseline(self.baseline)
        if not isinstance(self.n_steps, int) or self.n_steps < 1:
            raise UserError(f"explainer.n_steps={self.n_steps} must be a whole number from 1")
        if self.rule not in RULES:
            raise UserError(f"explainer.rule={self.rule!r} must be one of {', '.join(RULES)}")
        if not 0 < self.fraction <= 1:
            raise UserError(f"explainer.fraction={self.fraction} must be above 0 and at most 1, such as 0.25")
        if not 0 <= self.max_distance <= 1:
            raise UserError(
                f"explainer.max_distance={self.max_distance} must be from 0 to 1: it is a share of the path"
            )

    @property
    def parameters(self) -> str:
        """Those that decide the maps."""
        return (
            f"baseline={self.baseline}, n_steps={self.n_steps}, fraction={self.fraction}, "
            f"max_distance={self.max_distance}, rule={self.rule}"
        )

    def build_baselines(self, images: Images) -> Images:
        """The starting points of the paths."""
        return build_baselines(self.baseline, images, self.seed)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        maps = self.reduce(self.attribute_channels(evaluator, images, targets))
        return self.add_completeness(evaluator, maps, images, targets)

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """The attributions [batch, 3, height, width] without their completeness gap."""
        baselines = self.build_baselines(images)
        difference = (images - baselines).flatten(1)
        lengths = difference.abs()
        position, attributions = (lengths == 0).to(lengths), torch.zeros_like(difference)
        arrived, left = torch.zeros_like(difference), 0.5 if self.rule == "trapezoid" else 1.0
        for step in range(self.n_steps):
            points = torch.addcmul(baselines, position.view_as(images), difference.view_as(images))
            gradient = evaluator.compute_gradient(points, targets).flatten(1)
            moved = self.advance(position, gradient.abs(), lengths, step)
            attributions.addcmul_(arrived, gradient, value=1 - left)
            arrived = moved - position
            attributions.addcmul_(arrived, gradient, value=left)
            position = moved
        if self.rule == "trapezoid":
            attributions.addcmul_(arrived, evaluator.compute_gradient(images, targets).flatten(1), value=0.5)
        return (attributions * difference).view_as(images)

    def reduce(self, per_channel: Images) -> Attributions:
        """Sum over the channels."""
        return per_channel.sum(1)

    def advance(self, position: Tensor, strength: Tensor, lengths: Tensor, step: int) -> Tensor:
        """Where on their way from 0 to 1 the values [batch, values] are after a step.

        `strength` is |gradient| and is overwritten, `lengths` the |image - baseline| of each value; what need not move
        is at 1. On a CPU one image after the other, whose values stay in the cache.
        """
        if position.device.type == "cpu" and len(position) > 1:
            rows = zip(position.split(1), strength.split(1), lengths.split(1), strict=True)
            return torch.cat([self.advance(*row, step) for row in rows])
        share = (step + 1) / self.n_steps
        low, high = max(share - self.max_distance, 0.0), position.new_tensor(min(share + self.max_distance, 1.0))
        count = math.floor(self.fraction * (lengths.shape[1] - 1)) + 1
        total = lengths.sum(1, dtype=torch.float64)
        position = position.clamp(min=low)
        strength.masked_fill_(position >= high, math.inf)
        ahead = share * total - (position * lengths).sum(1, dtype=torch.float64)
        for _ in range(math.ceil(lengths.shape[1] / count)):  # all have moved after that, unless gradients are NaN
            behind = ahead > CLOSE * total
            if not bool(behind.any()):
                break
            threshold = strength.new_full((len(strength), 1), -1.0)
            waiting = strength if bool(behind.all()) else strength[behind]
            threshold[behind, 0] = find_kth_smallest(waiting, count).clamp(max=torch.finfo(strength.dtype).max)
            chosen = strength <= threshold
            room = (high - position).mul_(lengths).mul_(chosen).sum(1, dtype=torch.float64)
            part = torch.where(behind, ahead / room, 0.0).clamp(max=1)
            position.lerp_(high.expand_as(position), chosen * part[:, None].to(position))
            ahead = ahead - part * room
            strength.masked_fill_(chosen, math.inf)
        return position

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way for each point of the path, and two forwards for the completeness gap."""
        points = self.n_steps + (self.rule == "trapezoid")
        return points + 2, points


def find_kth_smallest(values: Tensor, count: int) -> Tensor:
    """The `count`-th smallest value [batch] of each row, fast on every device."""
    if values.device.type == "cpu":
        import numpy as np

        return torch.from_numpy(np.partition(values.numpy(), count - 1, axis=1)[:, count - 1])
    return values.kthvalue(count, dim=1).values
