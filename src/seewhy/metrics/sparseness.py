"""Sparseness: how few pixels hold the attribution."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.metrics.base import ImageMetric
from seewhy.metrics.evidence import Evidence


class Sparseness(ImageMetric):
    """Gini coefficient of |a|: sum over k of (2k - d - 1) |a|_(k) / (d sum |a|), for the d pixels in ascending order.

    From 0 (the same everywhere) to 1 - 1/d (all in one pixel); higher is better, and says nothing of whether it is the
    right pixel. NaN for a map of zeros and where a value is not finite.
    Chalasani, Chen, Chowdhury, Jha, Wu: Concise explanations of neural networks using adversarial training, ICML 2020.
    """

    higher_is_better = True

    @property
    def variant(self) -> str:
        """What the coefficient is taken of."""
        return "Gini coefficient of the absolute attributions of all pixels"

    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """Without any pass."""
        ordered = evidence.attributions.double().abs().flatten(1).sort(1).values
        pixels = ordered.shape[1]
        ranks = torch.arange(1, pixels + 1, device=ordered.device, dtype=ordered.dtype)
        gini = (ordered * (2 * ranks - pixels - 1)).sum(1) / (pixels * ordered.sum(1))
        return {"score": gini.where(evidence.finite_maps()[1], torch.nan)}
