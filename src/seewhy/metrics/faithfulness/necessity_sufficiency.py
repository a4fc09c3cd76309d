"""Necessity and sufficiency: orderings and total proportionality over the pixels with positive attribution alone.

Wang, Mardziel, Datta, Fredrikson: Interpreting interpretations, organizing attribution methods by criteria,
CVPR workshops 2020, arXiv 2002.07985.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seewhy.core.settings import Count
from seewhy.explainers.baselines import Baseline
from seewhy.metrics.base import AMOUNT, SHARE, MetricContext, Range, Space
from seewhy.metrics.faithfulness.pixel_flipping import CurveMetric, compute_pixel_counts, join_rows
from seewhy.metrics.perturbation_curves import Curve, compute_target_curves, rank_pixels

FEWEST_STEPS = 10
"""Steps over the positive pixels of a map, however few these are (one a pixel where there are fewer)."""


class PositiveCurve(NamedTuple):
    """The curve of one image over its pixels with positive attribution."""

    counts: list[int]
    """Numbers of changed pixels, from 0 to all P that are positive."""
    values: Tensor
    """The score f after each count of changes, float64."""
    empty: float
    """f of the baseline."""
    gain: float
    """f(image) - f(baseline)."""


class PositivePixelMetric(CurveMetric):
    """A metric that changes the pixels with positive attribution alone.

    `n_steps` divide all pixels of an image, as in `Deletion`: 1003.5 pixels a step at 224 pixels with 50 steps. The grid
    ends with the last positive pixel; where it has fewer than ten steps, ten equal ones (of whole pixels) are added. With
    at least as many steps as pixels the step is one pixel.

    Args:
        baseline: What hidden pixels are replaced by, one of `explainers.baselines.BASELINES`; published: black.
        n_steps: Steps over all pixels of an image.
        space: Score f of the target, `logit` (as published) or `probability`.
    """

    change: ClassVar[str]
    """`deletion` (necessity) or `insertion` (sufficiency)."""

    def __init__(self, baseline: Baseline = "black", n_steps: Count = 50, space: Space = "logit") -> None:
        super().__init__(baseline, n_steps, space)

    def describe(self, removal: str) -> str:
        """Put the variant into words: which pixels, settings, clamps and denominator."""
        deletes = self.change == "deletion"
        verb, clamp = ("removed", "at least f(b)") if deletes else ("shown", "from f(b) to f(image)")
        return f"positive pixels {verb}{removal}; {self.settings}; {clamp}; over f(image) - f(b)"

    def compute_positive_curves(self, context: MetricContext, first: str) -> list[PositiveCurve]:
        """Compute the curve of each image; all NaN for a map that is not finite.

        Smallest first, the counts are P less those of largest first: both curves have points at the same pixels.
        """
        pixels, positive = context.images[0, 0].numel(), rank_pixels(context).positive
        counts = [compute_positive_counts(count, pixels, self.n_steps) for count in positive]
        if first == "smallest":
            counts = [[count - step for step in reversed(steps)] for count, steps in zip(positive, counts, strict=True)]
        curve = Curve(self.change, first, self.baseline, "positive")
        curves = compute_target_curves(context, curve, counts, self.space)
        empty = context.select_scores(context.compute_baseline_logits(self.baseline), self.space).tolist()
        full = context.compute_scores(self.space).tolist()
        gains = [score - nothing for score, nothing in zip(full, empty, strict=True)]
        return [PositiveCurve(*parts) for parts in zip(counts, curves, empty, gains, strict=True)]

    def clamp(self, curve: PositiveCurve) -> Tensor:
        """Clamp f - f(b) from below at 0 and, where pixels are shown, from above at f(image) - f(b)."""
        gains = curve.values - curve.empty
        if self.change == "deletion":
            return gains.clamp_min(0)
        return gains.clamp(0, curve.gain) if curve.gain > 0 else torch.full_like(gains, torch.nan)


class OrderingMetric(PositivePixelMetric):
    """The average of the clamped score over 0 .. P changes, largest attribution first."""

    columns = ("undivided", "coverage")
    ranges: Mapping[str, Range] = {"score": AMOUNT, "undivided": AMOUNT, "coverage": SHARE}

    @property
    def variant(self) -> str:
        """Score space, baseline, steps, clamps and denominator."""
        return self.describe(", largest first")

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Average the curve of each image: score, `undivided` and `coverage` [batch]."""
        rows = []
        curves = self.compute_positive_curves(context, "largest")
        for curve, coverage in zip(curves, rank_pixels(context).compute_coverage(), strict=True):
            undivided = average_over_counts(curve.counts, self.clamp(curve))
            score = undivided / curve.gain if curve.gain > 0 else float("nan")
            rows.append({"score": score, "undivided": undivided, "coverage": coverage})
        return join_rows(context, rows)


class NecessityOrdering(OrderingMetric):
    """1 / (P + 1) * sum over i = 0 .. P of max(f(R_i) - f(b), 0), divided by f(image) - f(b).

    P is the number of pixels with positive attribution, R_i the image whose i most relevant of them are the baseline's,
    b the baseline (black by default), f the target's logit. From 0 without an upper limit, where f(image) counts as 1
    and a score below f(b) as 0; lower is better. A map without positive pixels gets 1: nothing is removed. NaN where
    f(image) <= f(b) or the map is not finite. Column `undivided` is the printed formula, before the division;
    `coverage` is P / pixels. Maps of different coverage average over different pixels: a sparse map is not rewarded for
    what it leaves out. Between the steps (see `PositivePixelMetric`) the clamped score is taken as a straight line; with
    a step of one pixel the formula is exact. The index i = 0 is in the sum, which makes 1 / (P + 1) the right divisor. In
    the mean rank of faithfulness it is a form of `deletion`, which removes every pixel and not the positive ones alone.

    Wang, Mardziel, Datta, Fredrikson: Interpreting interpretations, CVPR workshops 2020.
    """

    change = "deletion"
    variant_of = "deletion"
    higher_is_better = False


class SufficiencyOrdering(OrderingMetric):
    """1 / (P + 1) * sum over i = 0 .. P of clamp(f(S_i), f(b), f(image)) - f(b), divided by f(image) - f(b).

    P is the number of pixels with positive attribution, S_i the baseline b (black by default) with the i most relevant
    of them from the image, f the target's logit. Range 0 to 1, higher is better. A map without positive pixels gets 0:
    nothing is shown. NaN where f(image) <= f(b), also in column `undivided` (the printed formula, before the division),
    as the clamp has no range then, and where the map is not finite. Column `coverage` is P / pixels. Maps of different
    coverage average over different pixels: a sparse map is not rewarded for what it leaves out. Between the steps (see
    `PositivePixelMetric`) the clamped score is taken as a straight line; with a step of one pixel the formula is exact.
    In the mean rank of faithfulness it is a form of `insertion`, which shows every pixel.

    Wang, Mardziel, Datta, Fredrikson: Interpreting interpretations, CVPR workshops 2020.
    """

    change = "insertion"
    variant_of = "insertion"
    higher_is_better = True
    ranges: Mapping[str, Range] = {**OrderingMetric.ranges, "score": SHARE}


class ProportionalityMetric(PositivePixelMetric):
    """The area between the curves largest first and smallest first over the share of positive attribution.

    Not in the mean rank of faithfulness: a map whose order means nothing makes both curves fall alike, and scores well.
    """

    in_mean_rank = False
    higher_is_better = False
    columns = ("coverage",)
    ranges: Mapping[str, Range] = {"score": AMOUNT, "coverage": SHARE}

    @property
    def variant(self) -> str:
        """Score space, baseline, steps, clamps and denominator."""
        return self.describe(" from both ends")

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Integrate the gap of the two curves of each image: score and `coverage` [batch]."""
        rows, ranking = [], rank_pixels(context)
        curves = (self.compute_positive_curves(context, first) for first in ("largest", "smallest"))
        for image, (down, up) in enumerate(zip(*curves, strict=True)):
            score, coverage = float("nan"), ranking.compute_coverage()[image]
            if down.gain > 0 and coverage > 0:
                shares = ranking.compute_positive_shares(image)
                falling, rising = shares[down.counts], 1 - shares.flip(0)[up.counts]
                score = compute_area_between((falling, self.clamp(down)), (rising, self.clamp(up))) / down.gain
            rows.append({"score": score, "coverage": coverage})
        return join_rows(context, rows)


class Tpn(ProportionalityMetric):
    """Integral over k = 0 .. 1 of |D(k) - U(k)|, the score after a share k of the positive attribution is removed.

    Total proportionality for necessity. D removes the pixels with positive attribution from the largest down, U from the
    smallest up; removed pixels become the baseline b (black by default). Scores are (max(f, f(b)) - f(b)) /
    (f(image) - f(b)) with the target's logit f: 1 at k = 0. Points lie at whole pixels (see `PositivePixelMetric`), the
    curves are straight between them and the integral of these lines is exact. From 0 without an upper limit, lower is
    better: values, not only ranks, are proportional to effect. 0 for a map with one positive pixel: look at column
    `coverage`, the share of pixels with positive attribution. NaN where no pixel is positive, where f(image) <= f(b) or
    where the map is not finite.

    Wang, Mardziel, Datta, Fredrikson: Interpreting interpretations, CVPR workshops 2020.
    """

    change = "deletion"


class Tps(ProportionalityMetric):
    """Integral over k = 0 .. 1 of |D(k) - U(k)|, the score after a share k of the positive attribution is shown.

    Total proportionality for sufficiency. D shows the pixels with positive attribution on the baseline b (black by
    default) from the largest down, U from the smallest up. Scores are (clamp(f, f(b), f(image)) - f(b)) /
    (f(image) - f(b)) with the target's logit f: 0 at k = 0. Points lie at whole pixels (see `PositivePixelMetric`), the
    curves are straight between them and the integral of these lines is exact. Range 0 to 1, lower is better. 0 for a map
    with one positive pixel: look at column `coverage`, the share of pixels with positive attribution. NaN where no pixel
    is positive, where f(image) <= f(b) or where the map is not finite.

    Wang, Mardziel, Datta, Fredrikson: Interpreting interpretations, CVPR workshops 2020.
    """

    change = "insertion"
    ranges: Mapping[str, Range] = {**ProportionalityMetric.ranges, "score": SHARE}


def compute_positive_counts(positive: int, pixels: int, n_steps: int) -> list[int]:
    """Divide the positive pixels by the grid of all pixels; ten equal steps are added where these are fewer."""
    counts = {count for count in compute_pixel_counts(pixels, n_steps) if count < positive} | {0, positive}
    return sorted(counts if len(counts) > FEWEST_STEPS else counts | set(compute_pixel_counts(positive, FEWEST_STEPS)))


def average_over_counts(counts: list[int], values: Tensor) -> float:
    """Average over every count: 1 / (P + 1) * sum over i = 0 .. P of the value at i.

    Args:
        counts: Ascending, from 0 to P; values between them lie on straight lines.
        values: float64, the value at each count.

    Returns:
        The average, exact where every count is there.
    """
    positions = torch.tensor(counts, dtype=torch.float64)
    total = torch.trapezoid(values, positions) + (values[0] + values[-1]) / 2
    return float(total / (counts[-1] + 1))


def compute_area_between(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """Integrate |first - second| over 0 .. 1 for two curves (shares, values) of straight lines, exactly."""
    shares = np.union1d(first[0].numpy(), second[0].numpy())
    values = [np.interp(shares, curve[0].numpy(), curve[1].numpy()) for curve in (first, second)]
    gaps = values[0] - values[1]
    left, right = np.abs(gaps[:-1]), np.abs(gaps[1:])
    crossing = gaps[:-1] * gaps[1:] < 0
    heights = (left + right) / 2
    heights[crossing] = ((left**2 + right**2)[crossing] / (left + right)[crossing]) / 2
    return float((np.diff(shares) * heights).sum())
