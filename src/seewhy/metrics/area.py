"""Numbers out of perturbation curves: areas, averages over counts, grids of counts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FEWEST_STEPS = 10
"""Steps over the positive pixels of a map, however few these are (one a pixel where there are fewer)."""


def pixel_counts(pixels: int, n_steps: int) -> list[int]:
    """round(i pixels / n_steps) for i = 0 .. n_steps, and every count where there are fewer pixels than steps.

    The counts are symmetric (pixels - k is one where k is), so that insertion and reversed deletion share passes.
    """
    steps = max(1, min(n_steps, pixels))
    lower = [(2 * index * pixels + steps) // (2 * steps) for index in range(steps // 2 + 1)]
    return sorted({*lower, *(pixels - count for count in lower)})


def positive_counts(positive: int, pixels: int, n_steps: int) -> list[int]:
    """`pixel_counts` up to `positive`, and `positive` itself; ten equal steps are added where these are fewer."""
    counts = {count for count in pixel_counts(pixels, n_steps) if count < positive} | {0, positive}
    return sorted(counts if len(counts) > FEWEST_STEPS else counts | set(pixel_counts(positive, FEWEST_STEPS)))


def area(shares: Tensor, values: Tensor) -> float:
    """The area under straight lines through the points (trapezoidal rule)."""
    return float(torch.trapezoid(values, shares))


def average_over_counts(counts: list[int], values: Tensor) -> float:
    """1 / (P + 1) * sum over i = 0 .. P of the value at i; straight lines between the counts that are known.

    `counts` begins with 0 and ends with P. Exact where every count is known.
    """
    positions = torch.tensor(counts, dtype=torch.float64)
    total = torch.trapezoid(values, positions) + (values[0] + values[-1]) / 2
    return float(total / (counts[-1] + 1))


def area_between(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """The integral of |first - second| over 0 .. 1 for two curves (shares, values) of straight lines, exact."""
    shares = np.union1d(first[0].numpy(), second[0].numpy())
    values = [np.interp(shares, curve[0].numpy(), curve[1].numpy()) for curve in (first, second)]
    gaps = values[0] - values[1]
    left, right = np.abs(gaps[:-1]), np.abs(gaps[1:])
    crossing = gaps[:-1] * gaps[1:] < 0
    heights = (left + right) / 2
    heights[crossing] = ((left**2 + right**2)[crossing] / (left + right)[crossing]) / 2
    return float((np.diff(shares) * heights).sum())
