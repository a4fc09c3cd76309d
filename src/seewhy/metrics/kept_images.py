"""Images of which only what the map points at is kept, and what the classifier says of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.errors import UserError
from seewhy.metrics.evidence import Evidence, target_scores
from seewhy.metrics.stable_order import largest_first
from seewhy.types import Attributions

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


def kept_images(evidence: Evidence, mask: str) -> KeptImages:
    """One forward pass for each image, whatever metrics ask; a map with values that are not finite gives NaN."""
    return evidence.once(("kept images", mask), lambda: _measure(evidence, mask))


def _measure(evidence: Evidence, mask: str) -> KeptImages:
    maps, finite = evidence.finite_maps()
    space, masks = SPACES_OF_MASKS[mask], kept_masks(maps, mask)
    kept = maps.new_empty(len(maps))
    for chunk in evidence.probe.chunks(len(maps), gradient=False):
        logits = evidence.probe.logits(evidence.images[chunk] * masks[chunk, None])
        kept[chunk] = target_scores(logits, evidence.targets[chunk], space)
    undefined = kept.double().masked_fill(~finite, torch.nan)
    coverage = masks.double().mean((1, 2)).masked_fill(~finite, torch.nan)
    return KeptImages(evidence.scores(space).double(), undefined, coverage)


def kept_masks(maps: Attributions, mask: str) -> Tensor:
    """What is kept of each pixel, from 0 to 1 [batch, height, width]; nothing where no attribution is positive.

    `top_half` always keeps ceil(pixels / 2); of equal attributions the pixels that come first.
    """
    if mask == "binary_logit":
        return (maps > 0).to(maps)
    if mask == "top_half":
        order = largest_first(maps.flatten(1))
        half = order[:, : -(-order.shape[1] // 2)]
        return torch.zeros_like(maps).flatten(1).scatter_(1, half, 1).view_as(maps)
    positive = maps.clamp_min(0)
    largest = positive.amax((1, 2), keepdim=True)
    return positive / largest.where(largest > 0, 1)
