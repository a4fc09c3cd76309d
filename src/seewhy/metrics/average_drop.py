"""Average drop: how much of the score is lost when only what the map points at is kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.metrics.base import ImageMetric
from seewhy.metrics.evidence import Evidence
from seewhy.metrics.kept_images import check_mask, kept_images, mask_words

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

    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """One forward pass for each image, shared with `increase_in_confidence`."""
        found = kept_images(evidence, self.mask)
        drop = 100 * (found.whole - found.kept).clamp_min(0) / found.whole
        return {"score": drop.where(found.whole > SMALLEST_SCORE, torch.nan), "coverage": found.coverage}
