"""Necessity ordering (N-Ord): whether the pixels that are removed first are the ones that the score needs.

What necessity and sufficiency scores share: curves over the pixels with positive attribution alone.
Sufficiency ordering (S-Ord): whether the pixels that are shown first are enough for the score.
Total proportionality for necessity (TPN): whether equal shares of attribution are worth equal shares of score.
Total proportionality for sufficiency (TPS): whether equal shares of attribution bring equal shares of score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seewhy.metrics.base import MetricContext
from seewhy.metrics.faithfulness.pixel_flipping import CurveMetric, columns_of, compute_pixel_counts
from seewhy.metrics.perturbation_curves import Curve, compute_target_curves
from seewhy.metrics.pixel_ranking import rank_pixels


class Reading(NamedTuple):
    """One curve of one image: f after each of `counts` changes, f of the baseline, and f(image) - f(baseline)."""

    counts: list[int]
    values: Tensor
    empty: float
    gain: float


class PositivePixels(CurveMetric):
    """`n_steps` divide all pixels of an image, as in `Deletion`: 1003.5 pixels a step at 224 pixels with 50 steps.

    The grid ends with the last positive pixel; where it has fewer than ten steps, ten equal ones (of whole pixels) are
    added. With at least as many steps as pixels the step is one pixel.
    """

    def __init__(self, baseline: str = "black", n_steps: int = 50, space: str = "logit") -> None:
        super().__init__(baseline, n_steps, space)

    def ordering(self, context: MetricContext, change: str, clamped: Callable[[Reading], Tensor]) -> dict[str, Tensor]:
        """The average of the clamped gain over 0 .. P changes, largest first, with and without the division."""
        rows = []
        readings = self.readings(context, change, "largest")
        for reading, coverage in zip(readings, rank_pixels(context).coverage(), strict=True):
            undivided = average_over_counts(reading.counts, clamped(reading))
            score = undivided / reading.gain if reading.gain > 0 else float("nan")
            rows.append({"score": score, "undivided": undivided, "coverage": coverage})
        return columns_of(context, rows)

    def proportionality(
        self, context: MetricContext, change: str, clamped: Callable[[Reading], Tensor]
    ) -> dict[str, Tensor]:
        """Area between the curves largest first and smallest first over the share of positive attribution."""
        rows = []
        ranked = rank_pixels(context)
        pairs = zip(*(self.readings(context, change, first) for first in ("largest", "smallest")), strict=True)
        for image, ((down, up), coverage) in enumerate(zip(pairs, ranked.coverage(), strict=True)):
            score = float("nan")
            if down.gain > 0 and coverage > 0:
                shares = ranked.positive_shares(image)
                lines = (shares[down.counts], clamped(down)), (1 - shares.flip(0)[up.counts], clamped(up))
                score = compute_area_between(*lines) / down.gain
            rows.append({"score": score, "coverage": coverage})
        return columns_of(context, rows)

    def readings(self, context: MetricContext, change: str, first: str) -> list[Reading]:
        """One curve per image over its positive pixels; all NaN for a map that is not finite.

        Smallest first, the counts are P less those of largest first: both curves have points at the same pixels.
        """
        pixels = context.images[0, 0].numel()
        positive = rank_pixels(context).positive
        counts = [compute_positive_counts(count, pixels, self.n_steps) for count in positive]
        if first == "smallest":
            counts = [[count - step for step in reversed(steps)] for count, steps in zip(positive, counts, strict=True)]
        curves = compute_target_curves(context, Curve(change, first, self.baseline, "positive"), counts, self.space)
        empty = context.select_scores(context.compute_baseline_logits(self.baseline), self.space).tolist()
        gains = [
            full - nothing for full, nothing in zip(context.compute_scores(self.space).tolist(), empty, strict=True)
        ]
        return [Reading(*parts) for parts in zip(counts, curves, empty, gains, strict=True)]


class NecessityOrdering(PositivePixels):
    """1 / (P + 1) * sum over i = 0 .. P of max(f(R_i) - f(b), 0), divided by f(image) - f(b).

    P is the number of pixels with positive attribution, R_i the image whose i most relevant of them are the baseline's,
    b the baseline (black by default), f the target's logit. Lower is better; f(image) counts as 1 and a score below f(b)
    as 0. A map without positive pixels gets 1: nothing is removed. NaN where f(image) <= f(b) or the map is not
    finite. Column `undivided` is the printed formula, before the division; `coverage` is P / pixels.
    Maps of different coverage average over different pixels: a sparse map is not rewarded for what it leaves out.
    Between the steps (see `PositivePixels`) the clamped score is taken as a straight line; with a step of one pixel the
    formula is exact. The index i = 0 is part of the sum, which makes 1 / (P + 1) the right divisor.
    Wang, Mardziel, Datta, Fredrikson: Interpreting interpretations, organizing attribution methods by criteria,
    CVPR workshops 2020, arXiv 2002.07985.
    """

    higher_is_better = False
    columns: ClassVar[tuple[str, ...]] = ("undivided", "coverage")

    @property
    def variant(self) -> str:
        """Score space, baseline, steps, clamps and denominator."""
        return f"positive pixels removed, largest first; {self.settings}; at least f(b); over f(image) - f(b)"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Score, `undivided` and `coverage` [batch]."""
        return self.ordering(context, "deletion", self._clamped)

    @staticmethod
    def _clamped(reading: Reading) -> Tensor:
        return (reading.values - reading.empty).clamp_min(0)


class SufficiencyOrdering(PositivePixels):
    """1 / (P + 1) * sum over i = 0 .. P of clamp(f(S_i), f(b), f(image)) - f(b), divided by f(image) - f(b).

    P is the number of pixels with positive attribution, S_i the baseline b (black by default) with the i most relevant
    of them from the image, f the target's logit. Higher is better; range [0, 1]. A map without positive pixels gets
    0: nothing is shown. NaN where f(image) <= f(b), also in column `undivided` (the printed formula, before the
    division), as the clamp has no range then, and where the map is not finite. Column `coverage` is P / pixels.
    Maps of different coverage average over different pixels: a sparse map is not rewarded for what it leaves out.
    Between the steps (see `PositivePixels`) the clamped score is taken as a straight line; with a step of one pixel the
    formula is exact.
    Wang, Mardziel, Datta, Fredrikson: Interpreting interpretations, organizing attribution methods by criteria,
    CVPR workshops 2020, arXiv 2002.07985.
    """

    higher_is_better = True
    columns: ClassVar[tuple[str, ...]] = ("undivided", "coverage")

    @property
    def variant(self) -> str:
        """Score space, baseline, steps, clamps and denominator."""
        return f"positive pixels shown, largest first; {self.settings}; from f(b) to f(image); over f(image) - f(b)"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Score, `undivided` and `coverage` [batch]."""
        return self.ordering(context, "insertion", self._clamped)

    @staticmethod
    def _clamped(reading: Reading) -> Tensor:
        if not reading.gain > 0:
            return reading.values * float("nan")
        return (reading.values - reading.empty).clamp(0, reading.gain)


class Tpn(PositivePixels):
    """Integral over k = 0 .. 1 of |D(k) - U(k)|, the score after a share k of the positive attribution is removed.

    D removes the pixels with positive attribution from the largest down, U from the smallest up; removed pixels become
    the baseline b (black by default). Scores are (max(f, f(b)) - f(b)) / (f(image) - f(b)) with the target's logit f: 1
    at k = 0. Points lie at whole pixels (see `PositivePixels`), the curves are straight between them and the integral of
    these lines is exact. Lower is better: values, not only ranks, are proportional to effect. 0 for a map with one
    positive pixel: look at column `coverage`, the share of pixels with positive attribution. NaN where no pixel is
    positive, where f(image) <= f(b) or where the map is not finite.
    Wang, Mardziel, Datta, Fredrikson: Interpreting interpretations, organizing attribution methods by criteria,
    CVPR workshops 2020, arXiv 2002.07985.
    """

    higher_is_better = False
    columns: ClassVar[tuple[str, ...]] = ("coverage",)

    @property
    def variant(self) -> str:
        """Score space, baseline, steps, clamps and denominator."""
        return f"positive pixels removed from both ends; {self.settings}; at least f(b); over f(image) - f(b)"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Score and `coverage` [batch]."""
        return self.proportionality(context, "deletion", self._clamped)

    @staticmethod
    def _clamped(reading: Reading) -> Tensor:
        return (reading.values - reading.empty).clamp_min(0)


class Tps(PositivePixels):
    """Integral over k = 0 .. 1 of |D(k) - U(k)|, the score after a share k of the positive attribution is shown.

    D shows the pixels with positive attribution on the baseline b (black by default) from the largest down, U from the
    smallest up. Scores are (clamp(f, f(b), f(image)) - f(b)) / (f(image) - f(b)) with the target's logit f: 0 at k = 0.
    Points lie at whole pixels (see `PositivePixels`), the curves are straight between them and the integral of these
    lines is exact. Lower is better; range [0, 1]. 0 for a map with one positive pixel: look at column `coverage`, the
    share of pixels with positive attribution. NaN where no pixel is positive, where f(image) <= f(b) or where the map is
    not finite.
    Wang, Mardziel, Datta, Fredrikson: Interpreting interpretations, organizing attribution methods by criteria,
    CVPR workshops 2020, arXiv 2002.07985.
    """

    higher_is_better = False
    columns: ClassVar[tuple[str, ...]] = ("coverage",)

    @property
    def variant(self) -> str:
        """Score space, baseline, steps, clamps and denominator."""
        return f"positive pixels shown from both ends; {self.settings}; from f(b) to f(image); over f(image) - f(b)"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Score and `coverage` [batch]."""
        return self.proportionality(context, "insertion", self._clamped)

    @staticmethod
    def _clamped(reading: Reading) -> Tensor:
        return (reading.values - reading.empty).clamp(0, reading.gain)


FEWEST_STEPS = 10
"""Steps over the positive pixels of a map, however few these are (one a pixel where there are fewer)."""


def compute_positive_counts(positive: int, pixels: int, n_steps: int) -> list[int]:
    """`pixel_counts` up to `positive`, and `positive` itself; ten equal steps are added where these are fewer."""
    counts = {count for count in compute_pixel_counts(pixels, n_steps) if count < positive} | {0, positive}
    return sorted(counts if len(counts) > FEWEST_STEPS else counts | set(compute_pixel_counts(positive, FEWEST_STEPS)))


def average_over_counts(counts: list[int], values: Tensor) -> float:
    """1 / (P + 1) * sum over i = 0 .. P of the value at i; straight lines between the counts that are known.

    `counts` begins with 0 and ends with P. Exact where every count is known.
    """
    positions = torch.tensor(counts, dtype=torch.float64)
    total = torch.trapezoid(values, positions) + (values[0] + values[-1]) / 2
    return float(total / (counts[-1] + 1))


def compute_area_between(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """The integral of |first - second| over 0 .. 1 for two curves (shares, values) of straight lines, exact."""
    shares = np.union1d(first[0].numpy(), second[0].numpy())
    values = [np.interp(shares, curve[0].numpy(), curve[1].numpy()) for curve in (first, second)]
    gaps = values[0] - values[1]
    left, right = np.abs(gaps[:-1]), np.abs(gaps[1:])
    crossing = gaps[:-1] * gaps[1:] < 0
    heights = (left + right) / 2
    heights[crossing] = ((left**2 + right**2)[crossing] / (left + right)[crossing]) / 2
    return float((np.diff(shares) * heights).sum())
