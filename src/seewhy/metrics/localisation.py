"""Localisation: whether the map lies on the object, where masks say where that is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from seewhy.core.settings import NonNegative
from seewhy.metrics.base import SHARE, ImageMetric, MetricContext, Range


class LocalisationMetric(ImageMetric):
    """A metric that compares the map with the mask of the object, beside `chance`: what a map without knowledge scores.

    Both are NaN for an image whose mask is empty, and the score also where a value of the map is not finite.
    """

    construct = "localisation"
    higher_is_better = True
    needs_masks = True
    columns = ("chance",)
    ranges: Mapping[str, Range] = {"score": SHARE, "chance": SHARE}

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compare maps and masks, without any pass; UserError without masks."""
        masks, (maps, finite) = context.require_masks(self.name), context.replace_non_finite()
        score, chance = self._compare(maps, masks)
        present = masks.flatten(1).any(1)
        return {"score": score.where(finite & present, torch.nan), "chance": chance.where(present, torch.nan)}

    @abstractmethod
    def _compare(self, maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """(score, chance), float64 [batch] each, of finite maps and masks [batch, height, width]."""


class PointingGame(LocalisationMetric):
    """1 where the largest attribution lies within `tolerance` pixels of the object, 0 where it does not.

    Of several largest pixels, the share that hits: a constant map scores by chance. Range 0 to 1, higher is better; the
    column `chance`, the share of the image that counts as a hit, is what a random map scores. The paper allows 15 pixels
    around objects in photographs of their original size. Needs masks (UserError without); NaN for an image with an
    empty mask and where a value of the map is not finite.

    Zhang, Bargal, Lin, Brandt, Shen, Sclaroff: Top-down neural attention by excitation backprop, IJCV 2018.

    Args:
        tolerance: Pixels around the mask that count as a hit, from 0.

    Raises:
        UserError: If the tolerance is negative.
    """

    outcomes = (0, 1)

    def __init__(self, tolerance: NonNegative = 0) -> None:
        super().__init__()
        self.tolerance = tolerance

    @property
    def variant(self) -> str:
        """What counts as a hit."""
        return f"largest signed attribution within {self.tolerance:g} pixels of the mask; ties: share that hits"

    def _compare(self, maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        near = torch.stack([self._widen(mask) for mask in masks])
        largest = maps == maps.amax((1, 2), keepdim=True)
        hits = (largest & near).double().sum((1, 2)) / largest.double().sum((1, 2))
        return hits, near.double().mean((1, 2))

    def _widen(self, mask: Tensor) -> Tensor:
        if not self.tolerance or not bool(mask.any()):
            return mask
        distances = distance_transform_edt((~mask).cpu().numpy())
        return torch.from_numpy(distances <= self.tolerance).to(mask.device)


class RelevanceMass(LocalisationMetric):
    """Sum of max(a, 0) over the pixels of the mask / sum of max(a, 0) over all pixels.

    Range 0 to 1, higher is better; the column `chance`, the share of the image that the mask covers, is what a constant
    map scores. Needs masks (UserError without); NaN for an image with an empty mask, for a map without positive values,
    and where a value is not finite.

    Arras, Osman, Samek: CLEVR-XAI, a benchmark dataset for the ground truth evaluation of neural network explanations,
    Information Fusion 2022.
    """

    @property
    def variant(self) -> str:
        """Which attributions count."""
        return "share of the positive attributions inside the mask"

    def _compare(self, maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        positive = maps.double().clamp_min(0)
        share = (positive * masks).sum((1, 2)) / positive.sum((1, 2))
        return share, masks.double().mean((1, 2))


class RelevanceRank(LocalisationMetric):
    """Share of the K pixels with the largest attributions that lie in the mask, which has K pixels.

    Of equal attributions at the border of the K, as many as there is room for hit in proportion: a constant map scores
    by chance. Range 0 to 1, higher is better; the column `chance`, the share of the image that the mask covers, is what
    a random order scores. Needs masks (UserError without); NaN for an image with an empty mask and where a value is not
    finite.

    Arras, Osman, Samek: CLEVR-XAI, a benchmark dataset for the ground truth evaluation of neural network explanations,
    Information Fusion 2022.
    """

    @property
    def variant(self) -> str:
        """What is ranked."""
        return "signed attributions; as many of the largest as the mask has pixels; ties in proportion"

    def _compare(self, maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        inside, values = masks.flatten(1), maps.flatten(1)
        size = inside.sum(1, keepdim=True)
        threshold = values.sort(1, descending=True).values.gather(1, (size - 1).clamp_min(0))
        above, equal = values > threshold, values == threshold
        room = size[:, 0] - above.sum(1)
        hits = (above & inside).sum(1) + room * (equal & inside).sum(1) / equal.sum(1)
        return hits.double() / size[:, 0], masks.double().mean((1, 2))


class AveragePrecision(LocalisationMetric):
    """Area under the precision-recall curve of the map as a detector of the mask's pixels.

    The mean over the K pixels of the mask of the share of mask pixels among all pixels that rank as high or higher, in the
    order of the signed attributions. Equal attributions are averaged over their orders: a constant map scores by chance.
    Range 0 to 1, higher is better; the column `chance` is what a random order scores, (H + (K - 1) (N - H) / (N - 1)) / N
    of N pixels, H being the sum of 1 / i up to N. Needs masks (UserError without); NaN for an image with an empty mask and
    where a value is not finite.

    Davis, Goadrich: The relationship between precision-recall and ROC curves, ICML 2006. Clark, Wilming, Haufe: XAI-TRIS,
    Machine Learning 2024, measure explanations by such an area.
    """

    @property
    def variant(self) -> str:
        """What is ranked."""
        return "signed attributions as scores of the mask's pixels; ties averaged over their orders"

    def _compare(self, maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        inside, values = masks.flatten(1), maps.flatten(1)
        scores = torch.stack([_average_precision(*pair) for pair in zip(inside, values, strict=True)])
        return scores, torch.stack([_average_precision(mask, torch.zeros_like(mask).float()) for mask in inside])


def _average_precision(inside: Tensor, values: Tensor) -> Tensor:
    """The expected average precision of the pixels [n] under random orders of equal ones; NaN without a pixel inside."""
    order = values.argsort(descending=True)
    sizes = values[order].unique_consecutive(return_counts=True)[1].double()
    block = torch.arange(len(sizes), device=values.device).repeat_interleave(sizes.long())
    hits = torch.zeros_like(sizes).index_add_(0, block, inside[order].double())
    rank = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)
    size, hit = sizes[block], hits[block]
    earlier, above = (sizes.cumsum(0) - sizes)[block], (hits.cumsum(0) - hits)[block]
    beside = (rank - earlier - 1) * (hit - 1) / (size - 1).clamp_min(1)
    return (hit / size * (above + 1 + beside) / rank).sum() / inside.sum()
