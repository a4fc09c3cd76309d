"""Total proportionality for sufficiency (TPS): whether equal shares of attribution bring equal shares of score."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from seewhy.metrics.evidence import Evidence
from seewhy.metrics.positive_pixels import PositivePixels, Reading


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

    def measure(self, evidence: Evidence) -> dict[str, Tensor]:
        """Score and `coverage` [batch]."""
        return self.proportionality(evidence, "insertion", self._clamped)

    @staticmethod
    def _clamped(reading: Reading) -> Tensor:
        return (reading.values - reading.empty).clamp(0, reading.gain)
