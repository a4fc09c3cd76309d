"""Relevance rank: how many of the object's pixels are among the highest of the map."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.metrics.base import ImageMetric
from seewhy.metrics.evidence import Evidence


class RelevanceRank(ImageMetric):
    """Share of the K pixels with the largest attributions that lie in the mask, which has K pixels.

    Of equal attributions at the border of the K, as many as there is room for hit in proportion: a constant map scores
    by chance. From 0 to 1, higher is better; the column `chance`, the share of the image that the mask covers, is what a
    random order scores. Needs masks (UserError without); NaN for an image with an empty mask and where a value is not
    finite.
    Arras, Osman, Samek: CLEVR-XAI, a benchmark dataset for the ground truth evaluation of neural network explanations,
    Information Fusion 2022.
    """

    higher_is_better = True
    needs_masks = True
    columns = ("chance",)

    @property
    def variant(self) -> str:
        """What is ranked."""
        return "signed attributions; as many of the largest as the mask has pixels; ties in proportion"

    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """Without any pass."""
        masks, (maps, finite) = evidence.need_masks(self.name), evidence.finite_maps()
        inside, values = masks.flatten(1), maps.flatten(1)
        known, size = inside.any(1), inside.sum(1, keepdim=True)
        threshold = values.sort(1, descending=True).values.gather(1, (size - 1).clamp_min(0))
        above, equal = values > threshold, values == threshold
        room = size[:, 0] - above.sum(1)
        hits = (above & inside).sum(1) + room * (equal & inside).sum(1) / equal.sum(1)
        return {
            "score": (hits.double() / size[:, 0]).where(finite & known, torch.nan),
            "chance": masks.double().mean((1, 2)).where(known, torch.nan),
        }
