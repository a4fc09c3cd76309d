"""Relevance mass: how much of the positive attribution lies on the object."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.metrics.base import ImageMetric
from seewhy.metrics.evidence import Evidence


class RelevanceMass(ImageMetric):
    """Sum of max(a, 0) over the pixels of the mask / sum of max(a, 0) over all pixels.

    From 0 to 1, higher is better; the column `chance`, the share of the image that the mask covers, is what a constant
    map scores. Needs masks (UserError without); NaN for an image with an empty mask, for a map without positive values,
    and where a value is not finite.
    Arras, Osman, Samek: CLEVR-XAI, a benchmark dataset for the ground truth evaluation of neural network explanations,
    Information Fusion 2022.
    """

    higher_is_better = True
    needs_masks = True
    columns = ("chance",)

    @property
    def variant(self) -> str:
        """Which part of the map counts."""
        return "share of the positive attributions inside the mask"

    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """Without any pass."""
        masks, (maps, finite) = evidence.need_masks(self.name), evidence.finite_maps()
        positive, known = maps.double().clamp_min(0), masks.flatten(1).any(1)
        share = (positive * masks).sum((1, 2)) / positive.sum((1, 2))
        return {
            "score": share.where(finite & known, torch.nan),
            "chance": masks.double().mean((1, 2)).where(known, torch.nan),
        }
