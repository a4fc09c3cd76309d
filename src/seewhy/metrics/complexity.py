"""Complexity: how many pixels a reader has to look at."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.metrics.base import ImageMetric
from seewhy.metrics.evidence import Evidence


class Complexity(ImageMetric):
    """Entropy -sum p ln p of p = |a| / sum |a|, in nats.

    From 0 (all in one pixel) to ln d (the same in each of the d pixels); lower is better, and says nothing of whether it
    is the right pixel. NaN for a map of zeros and where a value is not finite.
    Bhatt, Weller, Moura: Evaluating and aggregating feature-based model explanations, IJCAI 2020.
    """

    higher_is_better = False

    @property
    def variant(self) -> str:
        """What the entropy is taken of."""
        return "entropy in nats of the shares that the pixels have in the sum of absolute attributions"

    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """Without any pass."""
        sizes = evidence.attributions.double().abs().flatten(1)
        entropy = torch.special.entr(sizes / sizes.sum(1, keepdim=True)).sum(1)
        return {"score": entropy.where(evidence.finite_maps()[1], torch.nan)}
