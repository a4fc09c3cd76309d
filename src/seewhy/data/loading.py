"""Batches that can be resumed, and the way from a decoded picture to the image that a network was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import InterpolationMode

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.types import Batch

Reader: TypeAlias = Callable[[Facts], Iterable[Batch]]
"""Reads the same images in batches, fitted to the size, crop and interpolation of some facts, as often as needed."""
LARGEST_BATCH = 64
"""Images in a batch that is kept as a whole: what an interruption can cost."""


@runtime_checkable
class TrainingSet(Protocol):
    """A data module that offers its training part without augmentation, by position and in a fixed order."""

    def training_count(self) -> int:
        """Count the training images.

        Returns:
            Their number.
        """

    def training_batch(self, positions: list[int]) -> Batch:
        """Read training images.

        Args:
            positions: Positions from 0 to the count less 1.

        Returns:
            Those images, float32 in [0, 1] at the classifier's size, with labels and names.
        """


def require_training_set(data: object, purpose: str) -> TrainingSet:
    """Check that a data module has a training set.

    Args:
        data: The data module.
        purpose: What needs it, for the error.

    Returns:
        The data module.

    Raises:
        UserError: It has none.
    """
    if not isinstance(data, TrainingSet):
        raise UserError(
            f"{purpose} needs a training set, and data={type(data).__name__.lower()} has none: take data=cifar10"
        )
    return data


def partition(loader: DataLoader[Any], largest: int | None = LARGEST_BATCH) -> list[list[int]]:
    """Partition a data set into batches, by position alone.

    Which images share a batch can decide the last bits of a value, so this is the same for every way to run them.

    Args:
        loader: The loader of the data set.
        largest: No batch has more images; None: the loader's batches.

    Returns:
        The positions of each batch in the data set.
    """
    batches = [list(batch) for batch in loader.batch_sampler or ()]
    if largest is None or max(map(len, batches), default=0) <= largest:
        return batches
    positions = [position for batch in batches for position in batch]
    return [positions[start : start + largest] for start in range(0, len(positions), largest)]


class WholeBatches:
    """The batches with the given positions, read as `loader` reads them; one empty batch where there are none.

    Not a DataLoader, so that Lightning neither pads it nor deals its images out to processes; an empty batch, so that
    every process goes through every hook.

    Args:
        loader: Reads the images.
        batches: The positions of each batch.
    """

    def __init__(self, loader: DataLoader[Any], batches: Sequence[list[int]]) -> None:
        self.dataset = loader.dataset
        self.loader: DataLoader[Batch] = DataLoader(
            loader.dataset,
            batch_sampler=list(batches) or [[]],
            num_workers=loader.num_workers if batches else 0,
            collate_fn=loader.collate_fn,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader) if self.loader.num_workers else read_ahead(iter(self.loader))


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Read each batch in a thread while the one before it is being worked on.

    Args:
        batches: To be read in order.

    Yields:
        Each of them; an error of reading is raised where its batch would come.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as thread:
        following = thread.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, batches, None)
            yield batch


def resize_and_crop(pictures: Tensor, facts: Facts) -> Tensor:
    """Resize to (height, width) / crop and cut out the centre: what timm and torchvision do for evaluation.

    With `fit="crop"` the picture keeps its proportions: it just covers (height, width) / crop, and what stands out on
    two sides is cut with the rest. With `fit="squash"` both sides are resized to that, whatever its proportions.

    Args:
        pictures: uint8, or floats in [0, 1], [..., channels, height, width].
        facts: Size, crop, fit and interpolation.

    Returns:
        [..., channels, height, width] of the same type; a picture that already has the right size as it is.
    """
    if pictures.shape[-2:] != facts.shape or facts.crop < 1:
        pictures = functional.center_crop(resize(pictures, facts), list(facts.shape))
    return pictures


def resize(pictures: Tensor, facts: Facts) -> Tensor:
    """Pictures [..., channels, height, width] that cover the image, not cut yet; unchanged where they have that size."""
    mode = InterpolationMode(facts.interpolation)
    new = compute_resized_size(pictures.shape[-2], pictures.shape[-1], facts)
    resized = functional.resize(pictures, list(new), mode, antialias=facts.interpolation != "nearest")
    return resized.clamp(0, 1) if resized.is_floating_point() else resized  # bicubic interpolation overshoots


def compute_resized_size(height: int, width: int, facts: Facts) -> tuple[int, int]:
    """(height, width) of a picture before it is cut, at least (height, width) of the image / crop.

    Exactly that with `fit="squash"`; else one side is, and the other in proportion.
    """
    rows, columns = (int(side / facts.crop) for side in facts.shape)
    if facts.fit == "squash":
        return rows, columns
    scale = max(rows / height, columns / width)
    return max(rows, int(height * scale)), max(columns, int(width * scale))


def compute_cut_share(height: int, width: int, facts: Facts) -> float:
    """Compute how much of a picture the centre crop leaves out beyond the share that every picture loses to `crop`.

    Args:
        height: Of the picture in pixels.
        width: Of the picture in pixels.
        facts: Size, crop and fit.

    Returns:
        From 0 (its proportions are those of the image) to 1.
    """
    if facts.fit == "squash":
        return 0.0
    rows, columns = facts.shape
    return 1 - min(height * columns, width * rows) / max(height * columns, width * rows)


def to_grey(pictures: Tensor) -> Tensor:
    """Turn colours into grey, as Pillow does: 0.299 red + 0.587 green + 0.114 blue.

    Args:
        pictures: uint8 [..., 3, height, width].

    Returns:
        uint8 [..., 1, height, width].
    """
    red, green, blue = pictures.to(torch.int32).unbind(-3)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8).unsqueeze(-3)


def to_bytes(pictures: Tensor) -> Tensor:
    """Round pictures to 8 bits.

    Args:
        pictures: uint8, which stays as it is, or floats in [0, 1].

    Returns:
        uint8 of that shape.
    """
    return (pictures * 255).round().to(torch.uint8) if pictures.is_floating_point() else pictures


def to_unit_range(pictures: Tensor) -> Tensor:
    """Scale pixels to [0, 1].

    Args:
        pictures: uint8, or floats in [0, 1], of any shape.

    Returns:
        float32 of that shape.
    """
    return pictures.float() if pictures.is_floating_point() else pictures.float().div_(255.0)
