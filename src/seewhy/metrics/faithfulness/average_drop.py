"""Average drop: how much of the score is lost when only what the map points at is kept.

Images of which only what the map points at is kept, and what the classifier says of them.
Increase in confidence: whether the kept part of the image scores higher than the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Attributions
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.pixel_ranking import order_descending

SPACES_OF_MASKS = {"soft": "probability", "binary_logit": "logit", "top_half": "probability"}
"""Each way to keep a part of the image, and the score that is compared under it."""
WORDS = {
    "soft": "kept: image times positive part of the map over its maximum",
    "binary_logit": "kept: pixels with a positive attribution",
    "top_half": "kept: the half of the pixels with the largest attributions",
}


@dataclass(frozen=True)
class KeptImages:
    """float64 [batch] each: the target's score Y of the whole image, O of the kept part, and how much was kept."""

    whole: Tensor
    kept: Tensor
    coverage: Tensor


def check_mask(metric: str, mask: str) -> None:
    """UserError that lists the masks where `mask` is none of them."""
    if mask not in SPACES_OF_MASKS:
        raise UserError(f"metric.{metric}.mask={mask!r} is none of {', '.join(SPACES_OF_MASKS)}")


def mask_words(mask: str) -> str:
    """Mask, baseline and score space in words."""
    return f"{WORDS[mask]}; rest black; score: {SPACES_OF_MASKS[mask]}"


def kept_images(context: MetricContext, mask: str) -> KeptImages:
    """One forward pass for each image, whatever metrics ask; a map with values that are not finite gives NaN."""
    return context.compute_once(("kept images", mask), lambda: _measure(context, mask))


def _measure(context: MetricContext, mask: str) -> KeptImages:
    maps, finite = context.replace_non_finite()
    space, masks = SPACES_OF_MASKS[mask], kept_masks(maps, mask)
    kept = maps.new_empty(len(maps))
    for chunk in context.evaluator.split(len(maps), gradient=False):
        logits = context.evaluator.compute_logits(context.images[chunk] * masks[chunk, None])
        kept[chunk] = context.select_scores(logits, space, chunk)
    undefined = kept.double().masked_fill(~finite, torch.nan)
    coverage = masks.double().mean((1, 2)).masked_fill(~finite, torch.nan)
    return KeptImages(context.compute_scores(space).double(), undefined, coverage)


def kept_masks(maps: Attributions, mask: str) -> Tensor:
    """What is kept of each pixel, from 0 to 1 [batch, height, width]; nothing where no attribution is positive.

    `top_half` always keeps ceil(pixels / 2); of equal attributions the pixels that come first.
    """
    if mask == "binary_logit":
        return (maps > 0).to(maps)
    if mask == "top_half":
        order = order_descending(maps.flatten(1))
        half = order[:, : -(-order.shape[1] // 2)]
        return torch.zeros_like(maps).flatten(1).scatter_(1, half, 1).view_as(maps)
    positive = maps.clamp_min(0)
    largest = positive.amax((1, 2), keepdim=True)
    return positive / largest.where(largest > 0, 1)


SMALLEST_SCORE = 1e-6


class AverageDrop(ImageMetric):
    """100 max(0, Y - O) / Y in percent, for the score Y of the image and O of its kept part; lower is better.

    `mask=soft`, as published: image * max(map, 0) / max(map), softmax probability, from 0 to 100. `binary_logit`:
    pixels with a positive attribution, logit, from 0 without an upper limit. `top_half`: the better half of the pixels,
    probability. What is not kept is black.

    A map that is positive everywhere keeps the whole image and scores a perfect 0: read the score together with
    `coverage`, the mean of the mask (from 0, nothing kept, to 1). A map without positive values keeps nothing (but under
    `top_half`). NaN where Y is not above 1e-6 or the map holds a value that is not finite.
    Chattopadhay, Sarkar, Howlader, Balasubramanian: Grad-CAM++, WACV 2018.
    """

    higher_is_better = False
    columns = ("coverage",)

    def __init__(self, mask: str = "soft") -> None:
        super().__init__()
        check_mask("average_drop", mask)
        self.mask = mask

    @property
    def name(self) -> str:
        """`average_drop`, followed by the mask where it is not the published one."""
        return "average_drop" if self.mask == "soft" else f"average_drop_{self.mask}"

    @property
    def variant(self) -> str:
        """Mask, baseline, score space and denominator."""
        return f"{mask_words(self.mask)}; in percent of the whole image's score, which must be above {SMALLEST_SCORE:g}"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """One forward pass for each image, shared with `increase_in_confidence`."""
        found = kept_images(context, self.mask)
        drop = 100 * (found.whole - found.kept).clamp_min(0) / found.whole
        return {"score": drop.where(found.whole > SMALLEST_SCORE, torch.nan), "coverage": found.coverage}


class IncreaseInConfidence(ImageMetric):
    """100 where Y < O, else 0, for the score Y of the image and O of its kept part; the mean is a percentage.

    Higher is better; masks, scores and `coverage` as in `AverageDrop`. A map that is positive everywhere can score 100
    for the loss of a little background: hence the coverage. NaN where the map holds a value that is not finite.
    Chattopadhay, Sarkar, Howlader, Balasubramanian: Grad-CAM++, WACV 2018.
    """

    higher_is_better = True
    columns = ("coverage",)

    def __init__(self, mask: str = "soft") -> None:
        super().__init__()
        check_mask("increase_in_confidence", mask)
        self.mask = mask

    @property
    def name(self) -> str:
        """`increase_in_confidence`, followed by the mask where it is not the published one."""
        return "increase_in_confidence" if self.mask == "soft" else f"increase_in_confidence_{self.mask}"

    @property
    def variant(self) -> str:
        """Mask, baseline and score space."""
        return f"{mask_words(self.mask)}; 100 where it rises, else 0"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """One forward pass for each image, shared with `average_drop`."""
        found = kept_images(context, self.mask)
        risen = 100 * (found.whole < found.kept).double()
        return {"score": risen.where(found.kept.isfinite(), torch.nan), "coverage": found.coverage}
