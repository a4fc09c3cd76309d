"""Guided integrated gradients: a path to the image along which the score changes as little as possible."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seewhy.core.errors import UserError, check_choice, check_whole_number
from seewhy.core.types import Images, Targets
from seewhy.explainers.completeness import BaselineExplainer, CompleteChannelExplainer
from seewhy.models.batched import BatchedEvaluator

RULES = ("trapezoid", "riemann_left")
CLOSE = 1e-6
"""Share of a path within which a step has arrived: what single precision can tell."""


@dataclass(frozen=True, kw_only=True)
class GuidedIg(CompleteChannelExplainer, BaselineExplainer):
    """Sum over steps of gradient * movement, where each step moves the values with the smallest gradients first.

    Every step shortens the L1 distance to the image by 1 / `n_steps`: of the values (pixel and channel) those with the
    smallest |gradient| move towards the image, then the next, until that is reached. The steps follow one another, so that
    a pass holds one point of each image. The first gradient is that at the baseline, where rounding decides which of the
    equal values of a pooling window has it if the baseline is one colour; `noise` and `uniform` are not.
    Rounding also orders gradients that are nearly equal: the farther `max_distance` lets the path stray, the more maps of
    other precisions differ.
    Kapishnikov, Venugopalan, Avci, Wedin, Terry, Bolukbasi: Guided integrated gradients, CVPR 2021.

    Args:
        n_steps: Steps of the path, from 1.
        fraction: Share of the values that move together, above 0 and at most 1.
        max_distance: How far a value may stray from the straight path, as a share of its way: 0 is the straight path of
            integrated gradients, 1 no bound.
        rule: The gradient of a step: `trapezoid`, the mean of those at its two ends, which comes much closer to
            completeness, or `riemann_left`, that at its start, as published.
        tolerance: Relative completeness gap, above 0, from which a map has a warning.
    """

    n_steps: int = 200
    fraction: float = 0.25
    max_distance: float = 0.02
    rule: str = "trapezoid"
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole_number("explainer.n_steps", self.n_steps)
        check_choice("explainer.rule", self.rule, RULES)
        if not 0 < self.fraction <= 1:
            raise UserError(f"explainer.fraction={self.fraction} must be above 0 and at most 1, such as 0.25")
        if not 0 <= self.max_distance <= 1:
            raise UserError(
                f"explainer.max_distance={self.max_distance} must be from 0 to 1: it is a share of the path"
            )

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """Integrate the gradient along the path, without measuring the completeness gap."""
        baselines = self.build_baselines(images)
        difference = (images - baselines).flatten(1)
        lengths = difference.abs()
        position, attributions = (lengths == 0).to(lengths), torch.zeros_like(difference)
        movement, left = torch.zeros_like(difference), 0.5 if self.rule == "trapezoid" else 1.0
        for step in range(self.n_steps):
            points = torch.addcmul(baselines, position.view_as(images), difference.view_as(images))
            gradient = evaluator.compute_gradient(points, targets).flatten(1)
            moved = self._advance(position, gradient.abs(), lengths, step)
            attributions.addcmul_(movement, gradient, value=1 - left)
            movement = moved - position
            attributions.addcmul_(movement, gradient, value=left)
            position = moved
        if self.rule == "trapezoid":
            attributions.addcmul_(movement, evaluator.compute_gradient(images, targets).flatten(1), value=0.5)
        return (attributions * difference).view_as(images)

    def _advance(self, position: Tensor, strength: Tensor, lengths: Tensor, step: int) -> Tensor:
        """Where on their way from 0 to 1 the values [batch, values] are after a step.

        `strength` is |gradient| and is overwritten, `lengths` the |image - baseline| of each value; what need not move
        is at 1. On a CPU one image after the other, whose values stay in the cache.
        """
        if position.device.type == "cpu" and len(position) > 1:
            rows = zip(position.split(1), strength.split(1), lengths.split(1), strict=True)
            return torch.cat([self._advance(*row, step) for row in rows])
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
            moving = strength <= threshold
            room = (high - position).mul_(lengths).mul_(moving).sum(1, dtype=torch.float64)
            fill = torch.where(behind, ahead / room, 0.0).clamp(max=1)
            position.lerp_(high.expand_as(position), moving * fill[:, None].to(position))
            ahead = ahead - fill * room
            strength.masked_fill_(moving, math.inf)
        return position

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way for each point of the path, and two forwards for the completeness gap."""
        points = self.n_steps + (self.rule == "trapezoid")
        return points + 2, points


def find_kth_smallest(values: Tensor, k: int) -> Tensor:
    """Find the k-th smallest value [batch] of each row, fast on every device."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.partition(values.numpy(), k - 1, axis=1)[:, k - 1])
    return values.kthvalue(k, dim=1).values
