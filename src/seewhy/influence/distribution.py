"""The images that data-wide influence is averaged over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Trainer

from seewhy.data.training_set import TrainingSet
from seewhy.types import Batch

STEP = 250
"""Images that are read at once."""


def distribution(trainer: Trainer, images: int) -> tuple[str, Iterator[Batch]]:
    """(`training` or `test`, the first `images` images of the training set or else of the test loop)."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    device = trainer.strategy.root_device
    if isinstance(data, TrainingSet):
        total = min(images, data.training_count())
        spans = (list(range(start, min(total, start + STEP))) for start in range(0, total, STEP))
        return "training", (data.training_batch(span).to(device) for span in spans)
    return "test", _first(trainer, images)


def _first(trainer: Trainer, images: int) -> Iterator[Batch]:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    left = images
    for batch in data.test_dataloader():
        if left > 0 and batch.names:
            yield data.on_after_batch_transfer(batch.to(trainer.strategy.root_device), 0).first(left)
            left -= len(batch.names)
