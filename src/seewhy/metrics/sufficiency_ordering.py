"""Sufficiency ordering (S-Ord): whether the pixels that are shown first are enough for the score."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from seewhy.metrics.evidence import Evidence
from seewhy.metrics.positive_pixels import PositivePixels, Reading


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

    def measure(self, evidence: Evidence) -> dict[str, Tensor]:
        """Score, `undivided` and `coverage` [batch]."""
        return self.ordering(evidence, "insertion", self._clamped)

    @staticmethod
    def _clamped(reading: Reading) -> Tensor:
        if not reading.gain > 0:
            return reading.values * float("nan")
        return (reading.values - reading.empty).clamp(0, reading.gain)
