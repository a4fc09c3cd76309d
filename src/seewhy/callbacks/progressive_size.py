"""Train at a small image size first and at the full size last."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.core.errors import UserError
from seewhy.core.settings import Amount, Pixels, check_when_made


@check_when_made("callbacks.{}")
class ProgressiveSize(Callback):
    """Changes the size of the training images from phase to phase.

    An epoch at two thirds of the side costs less than half; the last phase at the full size adapts the network to it.
    Validation and test images always have the full size.

    Args:
        sizes: Side in pixels of the training images from an epoch on, by that epoch; epoch 0 is needed.

    Raises:
        UserError: If there is no size for epoch 0.
    """

    def __init__(self, sizes: dict[Amount, Pixels]) -> None:
        if 0 not in sizes:
            raise UserError(f"callbacks.progressive_size.sizes={sizes} needs the size of epoch 0")
        self.sizes = sizes

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the size of this epoch's training images."""
        started = max(epoch for epoch in self.sizes if epoch <= trainer.current_epoch)
        trainer.datamodule.training_size = self.sizes[started]  # type: ignore[attr-defined]
