"""MoRF and LeRF: what the order of a map is worth, as the area between its curve and the reversed one."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from seewhy.metrics.curve_metric import CurveMetric
from seewhy.metrics.evidence import Evidence


class MorfLerf(CurveMetric):
    """Area under f with the k least relevant pixels removed, less the area with the k most relevant removed.

    Both over k / pixels, k = 0 .. pixels; removed pixels become the baseline, black by default; f is the target's
    softmax probability (or logit). Columns `morf` and `lerf` are the two areas; `morf` is deletion. Higher is better;
    range [-1, 1] for probabilities, 0 for an order that means nothing. NaN where the map is not finite.
    Samek, Binder, Montavon, Lapuschkin, Mueller: Evaluating the visualization of what a deep neural network has
    learned, IEEE TNNLS 2017.
    """

    higher_is_better = True
    columns: ClassVar[tuple[str, ...]] = ("morf", "lerf")

    @property
    def variant(self) -> str:
        """Score space, baseline and steps."""
        return f"area of LeRF less area of MoRF; {self.settings}"

    def measure(self, evidence: Evidence) -> dict[str, Tensor]:
        """The areas [batch]."""
        morf, lerf = (self.areas(evidence, "deletion", first) for first in ("largest", "smallest"))
        return {"score": lerf - morf, "morf": morf, "lerf": lerf}
