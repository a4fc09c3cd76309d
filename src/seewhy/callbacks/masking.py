"""Train on images of which random pixels are hidden, so that removal is nothing new to the network."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional

from seewhy.core.settings import Share, check_when_made
from seewhy.core.types import Batch, Images
from seewhy.explainers.baselines import Baseline, build_baselines

SIDES = (1, 2, 4, 8)
"""Sides in pixels of what is hidden together, one drawn for each image: maps are removed in specks and in patches."""


@check_when_made("callbacks.{}")
class Masking(Callback):
    """Hides random pixels of every training image; validation and test images stay as they are.

    Of each image a share, uniform from 0 to `largest`, is hidden in squares of 1, 2, 4 or 8 pixels, and replaced by the
    baseline. Random numbers come from torch's global generator, which Lightning seeds in every process.

    Args:
        largest: Share of the pixels that is hidden at most.
        baseline: What hidden pixels are replaced by, that of the metric.
    """

    def __init__(self, largest: Share = 0.5, baseline: Baseline = "black") -> None:
        self.largest, self.baseline = largest, baseline

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Hide pixels of the batch in place.

        Args:
            trainer: That trains.
            pl_module: The classifier.
            batch: Its images are changed.
            batch_idx: Number of the batch.
        """
        assert isinstance(batch, Batch)
        hidden = draw_hidden(batch.images, self.largest)
        batch.images.copy_(torch.where(hidden, build_baselines(self.baseline, batch.images), batch.images))


def draw_hidden(images: Images, largest: float) -> Tensor:
    """Draw what is hidden of each image.

    Args:
        images: [batch, channels, height, width].
        largest: Share of the pixels that is hidden at most.

    Returns:
        bool [batch, 1, height, width].
    """
    height, width = images.shape[2:]
    masks = []
    for share in (largest * torch.rand(len(images))).tolist():
        side = SIDES[int(torch.randint(len(SIDES), ()))]
        cells = torch.rand(1, 1, -(-height // side), -(-width // side)) < share
        masks.append(functional.interpolate(cells.float(), scale_factor=side)[0, :, :height, :width] > 0)
    return torch.stack(masks).to(images.device)
