"""What necessity and sufficiency scores share: curves over the pixels with positive attribution alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from seewhy.metrics.area import area_between, average_over_counts, positive_counts
from seewhy.metrics.curve_metric import CurveMetric, columns_of
from seewhy.metrics.curves import target_curves
from seewhy.metrics.evidence import Evidence, target_scores
from seewhy.metrics.ranking import ranking
from seewhy.metrics.seen import Curve


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

    def ordering(self, evidence: Evidence, change: str, clamped: Callable[[Reading], Tensor]) -> dict[str, Tensor]:
        """The average of the clamped gain over 0 .. P changes, largest first, with and without the division."""
        rows = []
        readings = self.readings(evidence, change, "largest")
        for reading, coverage in zip(readings, ranking(evidence).coverage(), strict=True):
            undivided = average_over_counts(reading.counts, clamped(reading))
            score = undivided / reading.gain if reading.gain > 0 else float("nan")
            rows.append({"score": score, "undivided": undivided, "coverage": coverage})
        return columns_of(evidence, rows)

    def proportionality(
        self, evidence: Evidence, change: str, clamped: Callable[[Reading], Tensor]
    ) -> dict[str, Tensor]:
        """Area between the curves largest first and smallest first over the share of positive attribution."""
        rows = []
        ranked = ranking(evidence)
        pairs = zip(*(self.readings(evidence, change, first) for first in ("largest", "smallest")), strict=True)
        for image, ((down, up), coverage) in enumerate(zip(pairs, ranked.coverage(), strict=True)):
            score = float("nan")
            if down.gain > 0 and coverage > 0:
                shares = ranked.positive_shares(image)
                lines = (shares[down.counts], clamped(down)), (1 - shares.flip(0)[up.counts], clamped(up))
                score = area_between(*lines) / down.gain
            rows.append({"score": score, "coverage": coverage})
        return columns_of(evidence, rows)

    def readings(self, evidence: Evidence, change: str, first: str) -> list[Reading]:
        """One curve per image over its positive pixels; all NaN for a map that is not finite.

        Smallest first, the counts are P less those of largest first: both curves have points at the same pixels.
        """
        pixels = evidence.images[0, 0].numel()
        positive = ranking(evidence).positive
        counts = [positive_counts(count, pixels, self.n_steps) for count in positive]
        if first == "smallest":
            counts = [[count - step for step in reversed(steps)] for count, steps in zip(positive, counts, strict=True)]
        curves = target_curves(evidence, Curve(change, first, self.baseline, "positive"), counts, self.space)
        empty = target_scores(evidence.baseline_logits(self.baseline), evidence.targets, self.space).tolist()
        gains = [full - nothing for full, nothing in zip(evidence.scores(self.space).tolist(), empty, strict=True)]
        return [Reading(*parts) for parts in zip(counts, curves, empty, gains, strict=True)]
