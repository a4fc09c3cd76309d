"""Training images as they are, for whoever asks which of them a decision rests on."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from seewhy.errors import UserError
from seewhy.types import Batch


@runtime_checkable
class TrainingSet(Protocol):
    """A data module that offers its training part without augmentation, by position and in a fixed order."""

    def training_count(self) -> int:
        """How many training images there are."""

    def training_batch(self, positions: list[int]) -> Batch:
        """Those images, float32 in [0, 1] at the classifier's size, with labels and names."""


def training_set(data: object, purpose: str) -> TrainingSet:
    """The data module as a training set; UserError where it has none."""
    if not isinstance(data, TrainingSet):
        raise UserError(
            f"{purpose} needs a training set, and data={type(data).__name__.lower()} has none: take data=cifar10"
        )
    return data
