"""Insertion: how fast the score rises when the most relevant pixels are shown first."""

from __future__ import annotations

from torch import Tensor

from seewhy.metrics.curve_metric import CurveMetric
from seewhy.metrics.evidence import Evidence


class Insertion(CurveMetric):
    """Area under f(baseline with the k most relevant pixels of the image) over k / pixels, k = 0 .. pixels.

    The baseline is the blurred image by default (of `explainers.baselines`: Gaussian, an eighth of the shorter side; the
    paper's kernel has 5 pixels at 224); f is the target's softmax probability (or logit), lines between the steps are
    straight. Higher is better; range [0, 1] for probabilities. NaN where the map is not finite.
    Petsiuk, Das, Saenko: RISE, randomized input sampling for explanation of black-box models, BMVC 2018.
    """

    higher_is_better = True

    def __init__(self, baseline: str = "blurred", n_steps: int = 50, space: str = "probability") -> None:
        super().__init__(baseline, n_steps, space)

    @property
    def variant(self) -> str:
        """Score space, baseline and steps."""
        return f"area under the curve, largest first; {self.settings}"

    def measure(self, evidence: Evidence) -> dict[str, Tensor]:
        """The areas [batch]."""
        return {"score": self.areas(evidence, "insertion", "largest")}
