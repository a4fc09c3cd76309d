"""Image files as a torch data set that reports what it cannot read."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from seewhy.core.errors import UnreadableImage
from seewhy.core.facts import Facts
from seewhy.core.types import Batch, Corrupted, Skipped
from seewhy.data.images import MAX_PIXELS, fit_mask, read_image, read_mask
from seewhy.data.loading import resize_and_crop, to_bytes, to_unit_range

Corrupt: TypeAlias = Callable[[Tensor], Corrupted]
"""Picture uint8 [channels, height, width] -> its corrupted versions at the classifier's size."""


class Item(NamedTuple):
    """One file of a data set; `label` is -1 where the classifier does not know the class."""

    path: Path
    name: str
    label: int = -1
    label_name: str = ""
    mask: Path | None = None
    split: str = ""
    """The part of the data set, `train`, `val` or `test`; empty where it was not split."""
    several: tuple[int, ...] | None = None
    """All true labels, where an image may have several and they are known."""

    @property
    def is_labelled(self) -> bool:
        """Whether the classifier knows its class, or its labels are known."""
        return self.label >= 0 or self.several is not None


class Record(NamedTuple):
    """One image, float32 [channels, height, width] in [0, 1], its item, its mask, bool [height, width], and versions."""

    image: Tensor
    item: Item
    mask: Tensor
    corrupted: Corrupted | None = None


class ImageFiles(Dataset[Record | Skipped]):
    """Reads each file once and fits it to the classifier's size; `corrupt` adds its corrupted versions.

    A file that cannot be used becomes a `Skipped` with the reason; every other error is raised. Corruptions are defined
    for 8 bits: where there are any, pictures of more bits are rounded first, and the clean image is that of the rest.
    """

    def __init__(
        self,
        items: Sequence[Item],
        facts: Facts,
        corrupt: Corrupt | None = None,
        max_pixels: int = MAX_PIXELS,
        scale: float | None = None,
    ) -> None:
        self.items = list(items)
        self.facts = facts
        self.corrupt = corrupt
        self.max_pixels = max_pixels
        self.scale = scale

    def __len__(self) -> int:
        return len(self.items)

    def fingerprint(self) -> dict[str, str]:
        """Digests of the names and classes, and of the sizes and times of the files: what tells data apart."""
        names = [(item.name, item.label, item.label_name) for item in self.items]
        files = [_state(path) for item in self.items for path in (item.path, item.mask) if path is not None]
        sizes, times = zip(*files, strict=True) if files else ((), ())
        return {"names": _digest(names), "sizes of files": _digest(sizes), "times of files": _digest(times)}

    def __getitem__(self, position: int) -> Record | Skipped:
        item = self.items[position]
        try:
            picture = read_image(item.path, self.max_pixels, self.facts.channels, self.scale)
        except UnreadableImage as error:
            return Skipped(escape_path(item.path), str(error))
        try:
            size = picture.shape[1], picture.shape[2]
            mask = None if item.mask is None else read_mask(item.mask, size, self.max_pixels)
        except UnreadableImage as error:
            return Skipped(escape_path(item.path), f"its mask {escape_path(item.mask or Path())}: {error}")
        fitted = torch.zeros(self.facts.shape, dtype=torch.bool) if mask is None else fit_mask(mask, self.facts)
        picture = picture if self.corrupt is None else to_bytes(picture)
        corrupted = None if self.corrupt is None else self.corrupt(picture)
        return Record(to_unit_range(self.fit(picture)), item, fitted, corrupted)

    def fit(self, picture: Tensor) -> Tensor:
        """Fit a picture [channels, height, width] to the classifier's size."""
        return resize_and_crop(picture, self.facts)


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _digest(values: Sequence[object]) -> str:
    return hashlib.blake2b("\n".join(map(repr, values)).encode(errors="backslashreplace"), digest_size=8).hexdigest()


def collate(
    records: Sequence[Record | Skipped],
    size: int | tuple[int, int],
    masked: bool = False,
    channels: int = 3,
    outputs: int | None = None,
) -> Batch:
    """One batch of images float32 [n, channels, height, width], n being how many files could be read (perhaps 0).

    It has masks bool [n, height, width] if `masked`, and labels [n, outputs] where an image may have several of `outputs`.
    """
    shape = size if isinstance(size, tuple) else (size, size)
    read = [record for record in records if isinstance(record, Record)]
    skipped = [record for record in records if isinstance(record, Skipped)]
    items = [record.item for record in read]
    return Batch(
        images=torch.stack([record.image for record in read]) if read else torch.zeros(0, channels, *shape),
        labels=torch.tensor([item.label for item in items], dtype=torch.int64)
        if outputs is None
        else torch.tensor([mark_labels(item, outputs) for item in items], dtype=torch.int64).reshape(-1, outputs),
        names=[item.name for item in items],
        paths=[escape_path(item.path) for item in items],
        label_names=[item.label_name for item in items],
        skipped=skipped,
        masks=torch.stack([record.mask for record in read]) if masked and read else None,
        corrupted=stack_versions([record.corrupted for record in read]),
    )


def mark_labels(item: Item, outputs: int) -> list[int]:
    """1 for each true label of an image and 0 for the others; -1 for all where nothing is known."""
    if not item.is_labelled:
        return [-1] * outputs
    true = (item.label,) if item.several is None else item.several
    return [int(index in true) for index in range(outputs)]


def stack_versions(versions: Sequence[Corrupted | None]) -> Corrupted | None:
    """The versions of several pictures as one batch; None where there are none."""
    pictures = [each for each in versions if each is not None]
    return Corrupted(*(torch.stack(fields) for fields in zip(*pictures, strict=True))) if pictures else None


def escape_path(path: Path) -> str:
    r"""The path as one line of text that every file and terminal can hold.

    Bytes that are not UTF-8 and control characters (a new line, an escape sequence) are written as `\xe9`.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(f"\\x{ord(each):02x}" if unicodedata.category(each) == "Cc" else each for each in text)
