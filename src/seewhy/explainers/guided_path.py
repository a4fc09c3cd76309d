"""The step of guided integrated gradients: the values with the smallest gradients move first."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.core.tensors import map_in_threads

CLOSE = 1e-6
"""Share of a path within which a step has arrived: what single precision can tell."""


class Goal(NamedTuple):
    """Where a step of the path ends."""

    share: float
    """Of the L1 distance to the image that is behind it, above 0 and at most 1."""
    low: float
    """No value stays behind this share of its way."""
    high: float
    """No value goes beyond this share of its way."""
    together: int
    """Of the values that move together."""


def advance(position: Tensor, strength: Tensor, lengths: Tensor, goal: Goal) -> Tensor:
    """Move the values with the smallest gradients until the goal of a step is reached.

    On a CPU one image to a core, whose values stay in the cache: what becomes of an image does not depend on the number
    of threads.

    Args:
        position: Where on their way from 0 to 1 the values [batch, values] are; what need not move is at 1.
        strength: |gradient| of each value, overwritten.
        lengths: |image - baseline| of each value.
        goal: That of the step.

    Returns:
        The positions [batch, values] after the step.
    """
    if position.device.type != "cpu":
        return advance_batch(position, strength, lengths, goal)
    rows = zip(position.numpy(), strength.numpy(), lengths.numpy(), strict=True)
    return torch.from_numpy(np.stack(map_in_threads(lambda row: _advance_image(*row, goal), rows)))


def _advance_image(
    position: NDArray[Any], strength: NDArray[Any], lengths: NDArray[Any], goal: Goal
) -> NDArray[np.floating[Any]]:
    """`advance` for one image [values]."""
    real = position.dtype.type
    high, largest = real(goal.high), np.finfo(real).max
    total = lengths.sum(dtype=np.float64)
    moved: NDArray[np.floating[Any]] = position.clip(min=real(goal.low))
    np.copyto(strength, math.inf, where=moved >= high)
    ahead = goal.share * total - (moved * lengths).sum(dtype=np.float64)
    for _ in range(math.ceil(len(lengths) / goal.together)):  # all have moved after that, unless gradients are NaN
        if not ahead > CLOSE * total:
            break
        threshold = np.partition(strength, goal.together - 1)[goal.together - 1]
        moving = np.flatnonzero(strength <= min(threshold, largest))
        way = high - moved[moving]
        room = float((way * lengths[moving]).sum(dtype=np.float64))
        fill = min(ahead / room, 1.0) if room else 1.0
        part = real(fill)
        moved[moving] = (
            high - (1 - part) * way if part >= 0.5 else moved[moving] + part * way
        )  # reaches high, as `lerp`
        ahead -= fill * room
        strength[moving] = math.inf
    return moved


def advance_batch(position: Tensor, strength: Tensor, lengths: Tensor, goal: Goal) -> Tensor:
    """Move the values of all images at once, as `advance` does on other devices than the CPU.

    Args:
        position: [batch, values].
        strength: [batch, values], overwritten.
        lengths: [batch, values].
        goal: That of the step.

    Returns:
        The positions [batch, values] after the step.
    """
    high = position.new_tensor(goal.high)
    total = lengths.sum(1, dtype=torch.float64)
    position = position.clamp(min=goal.low)
    strength.masked_fill_(position >= high, math.inf)
    ahead = goal.share * total - (position * lengths).sum(1, dtype=torch.float64)
    for _ in range(math.ceil(lengths.shape[1] / goal.together)):  # all have moved after that, unless gradients are NaN
        behind = ahead > CLOSE * total
        if not bool(behind.any()):
            break
        threshold = strength.new_full((len(strength), 1), -1.0)
        waiting = strength if bool(behind.all()) else strength[behind]
        threshold[behind, 0] = find_kth_smallest(waiting, goal.together).clamp(max=torch.finfo(strength.dtype).max)
        moving = strength <= threshold
        room = (high - position).mul_(lengths).mul_(moving).sum(1, dtype=torch.float64)
        fill = torch.where(behind, ahead / room, 0.0).clamp(max=1)
        position.lerp_(high.expand_as(position), moving * fill[:, None].to(position))
        ahead = ahead - fill * room
        strength.masked_fill_(moving, math.inf)
    return position


def find_kth_smallest(values: Tensor, k: int) -> Tensor:
    """Find the k-th smallest value [batch] of each row."""
    return values.kthvalue(k, dim=1).values
