"""Deletion: how fast the score falls when the most relevant pixels are removed first."""

from __future__ import annotations

from torch import Tensor

from seewhy.metrics.curve_metric import CurveMetric
from seewhy.metrics.evidence import Evidence


class Deletion(CurveMetric):
    """Area under f(image without its k most relevant pixels) over k / pixels, k = 0 .. pixels.

    Removed pixels become the baseline, black by default; f is the target's softmax probability (or logit), lines
    between the steps are straight. Lower is better; range [0, 1] for probabilities. n_steps=224 is the published 224
    pixels a step at 224 pixels. NaN where the map is not finite.
    Petsiuk, Das, Saenko: RISE, randomized input sampling for explanation of black-box models, BMVC 2018.
    """

    higher_is_better = False

    @property
    def variant(self) -> str:
        """Score space, baseline and steps."""
        return f"area under the curve, largest first; {self.settings}"

    def measure(self, evidence: Evidence) -> dict[str, Tensor]:
        """The areas [batch]."""
        return {"score": self.areas(evidence, "deletion", "largest")}
