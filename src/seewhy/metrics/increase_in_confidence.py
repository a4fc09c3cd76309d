"""Increase in confidence: whether the kept part of the image scores higher than the whole."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.metrics.base import ImageMetric
from seewhy.metrics.evidence import Evidence
from seewhy.metrics.kept_images import check_mask, kept_images, mask_words


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

    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """One forward pass for each image, shared with `average_drop`."""
        found = kept_images(evidence, self.mask)
        risen = 100 * (found.whole < found.kept).double()
        return {"score": risen.where(found.kept.isfinite(), torch.nan), "coverage": found.coverage}
