"""Pointing game: whether the map is largest on the object.

Relevance mass: how much of the positive attribution lies on the object.
Relevance rank: how many of the object's pixels are among the highest of the map.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.metrics.base import ImageMetric, MetricContext


class PointingGame(ImageMetric):
    """1 where the largest attribution lies within `tolerance` pixels of the object, 0 where it does not.

    Of several largest pixels, the share that hits: a constant map scores by chance. From 0 to 1, higher is better; the
    column `chance`, the share of the image that counts as a hit, is what a random map scores. The paper allows 15 pixels
    around objects in photographs of their original size. Needs masks (UserError without); NaN for an image with an
    empty mask and where a value of the map is not finite.
    Zhang, Bargal, Lin, Brandt, Shen, Sclaroff: Top-down neural attention by excitation backprop, IJCV 2018.
    """

    higher_is_better = True
    needs_masks = True
    columns = ("chance",)

    def __init__(self, tolerance: float = 0) -> None:
        super().__init__()
        if not tolerance >= 0:
            raise UserError(f"metric.pointing_game.tolerance={tolerance} must be 0 or a number of pixels above")
        self.tolerance = tolerance

    @property
    def variant(self) -> str:
        """What counts as a hit."""
        return f"largest signed attribution within {self.tolerance:g} pixels of the mask; ties: share that hits"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Without any pass."""
        masks, (maps, finite) = context.require_masks(self.name), context.replace_non_finite()
        defined = finite & masks.flatten(1).any(1)
        near = torch.stack([self._near(mask) for mask in masks])
        largest = maps == maps.amax((1, 2), keepdim=True)
        hits = (largest & near).double().sum((1, 2)) / largest.double().sum((1, 2))
        return {
            "score": hits.where(defined, torch.nan),
            "chance": near.double().mean((1, 2)).where(masks.flatten(1).any(1), torch.nan),
        }

    def _near(self, mask: Tensor) -> Tensor:
        if not self.tolerance or not bool(mask.any()):
            return mask
        distances = distance_transform_edt((~mask).cpu().numpy())
        return torch.from_numpy(distances <= self.tolerance).to(mask.device)


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

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Without any pass."""
        masks, (maps, finite) = context.require_masks(self.name), context.replace_non_finite()
        positive, known = maps.double().clamp_min(0), masks.flatten(1).any(1)
        share = (positive * masks).sum((1, 2)) / positive.sum((1, 2))
        return {
            "score": share.where(finite & known, torch.nan),
            "chance": masks.double().mean((1, 2)).where(known, torch.nan),
        }


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

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Without any pass."""
        masks, (maps, finite) = context.require_masks(self.name), context.replace_non_finite()
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
