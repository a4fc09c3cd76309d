"""Necessity ordering (N-Ord): whether the pixels that are removed first are the ones that the score needs."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from seewhy.metrics.evidence import Evidence
from seewhy.metrics.positive_pixels import PositivePixels, Reading


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

    def measure(self, evidence: Evidence) -> dict[str, Tensor]:
        """Score, `undivided` and `coverage` [batch]."""
        return self.ordering(evidence, "deletion", self._clamped)

    @staticmethod
    def _clamped(reading: Reading) -> Tensor:
        return (reading.values - reading.empty).clamp_min(0)
