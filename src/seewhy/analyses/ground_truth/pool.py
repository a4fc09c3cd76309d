"""The pictures of `data=` that planted data is made of: cut at random, in two parts that share no picture where they can."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Batch
from seewhy.data.loading import TrainingSet, to_bytes

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

MARGIN = 1.25
"""Pictures are this many times as large as the cuts that are taken of them."""
LARGEST = 4000
"""Pictures of each part that are kept in memory."""
READ = 500
"""Training pictures that are read at once."""


class Part(NamedTuple):
    """Pictures of one part.

    Attributes:
        pictures: uint8 [n, channels, height, width].
        labels: int64 [n], index into the names of the pool; -1 where nothing is known.
    """

    pictures: Tensor
    labels: Tensor


class Pool(NamedTuple):
    """Pictures in two parts.

    Attributes:
        train: Of which training images are made.
        test: Of which all others are made.
        names: Of the classes.
        digest: Of all that; empty where nothing was read from files.
    """

    train: Part
    test: Part
    names: tuple[str, ...]
    digest: str = ""

    def get_part(self, part: str) -> Part:
        """Get the pictures of a part.

        Args:
            part: `train`; every other name means the test pictures.

        Returns:
            The pictures with their labels.
        """
        return self.train if part == "train" else self.test

    def list_classes(self, least: int = 1) -> list[str]:
        """List the classes with at least so many pictures in each part.

        Args:
            least: Pictures.

        Returns:
            Their names, in order.
        """
        counts = [torch.bincount(each.labels.clamp_min(-1) + 1, minlength=len(self.names) + 1)[1:] for each in self[:2]]
        return [name for name, *numbers in zip(self.names, *counts, strict=True) if min(numbers) >= least]


def build_pool(data: LightningDataModule, limit: int = LARGEST) -> Pool:
    """Read the pictures of a data module.

    Args:
        data: Whose images are `MARGIN` times as large as the network's. A module with a training part of its own gives
            both parts; else the pictures of each class are dealt to both in turn, and a class of one picture has it in both.
        limit: Pictures of each part.

    Returns:
        The pictures.

    Raises:
        UserError: There are none.
    """
    data.prepare_data()
    data.setup("test")
    train = []
    if isinstance(data, TrainingSet):
        count = min(data.training_count(), limit)
        spans = [list(range(start, min(start + READ, count))) for start in range(0, count, READ)]
        train = [_pack(data.training_batch(span)) for span in spans]
    test = _read(data, limit if train else 2 * limit)
    words = [word for _, names in (*train, *test) for word in names]
    if not words:
        raise UserError("data= has no image that can be read: planted data is made of pictures; give data.root=")
    classes = tuple(dict.fromkeys(sorted(set(words) - {""})))
    parts = (_join(train, classes), _join(test, classes)) if train else _deal(_join(test, classes))
    return Pool(*parts, classes, _compute_digest(parts, classes))


def _compute_digest(parts: tuple[Part, Part], classes: tuple[str, ...]) -> str:
    """16 hexadecimal digits that change where a picture, a label or the name of a class does."""
    digest = hashlib.blake2b(
        json.dumps([classes, [list(part.pictures.shape) for part in parts]]).encode(), digest_size=8
    )
    for part in parts:
        for values in part:
            digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(data: LightningDataModule, limit: int) -> list[tuple[Tensor, list[str]]]:
    packed, count = [], 0
    for batch in data.test_dataloader():
        moved = data.on_after_batch_transfer(batch, 0)
        packed.append(_pack(moved.first(limit - count)))
        count += len(packed[-1][1])
        if count >= limit:
            break
    return packed


def _pack(batch: Batch) -> tuple[Tensor, list[str]]:
    return to_bytes(batch.images), list(batch.label_names)


def _join(packed: list[tuple[Tensor, list[str]]], classes: tuple[str, ...]) -> Part:
    index = {name: number for number, name in enumerate(classes)}
    labels = [index.get(word, -1) for _, words in packed for word in words]
    return Part(torch.cat([pictures for pictures, _ in packed]), torch.tensor(labels, dtype=torch.int64))


def _deal(part: Part) -> tuple[Part, Part]:
    """The pictures of each class in turn to both parts; the only one of a class to both."""
    rows: tuple[list[int], list[int]] = ([], [])
    for label in sorted(set(part.labels.tolist())):
        members = (part.labels == label).nonzero().flatten().tolist()
        for side in (0, 1):
            rows[side].extend(members if len(members) == 1 else members[side::2])
    first, second = (Part(part.pictures[sorted(each)], part.labels[sorted(each)]) for each in rows)
    return first, second


def cut(pictures: Tensor, row: int, size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """Cut a picture at a random place, and flip it in half of the cases.

    Args:
        pictures: uint8 [n, channels, height, width].
        row: Of the picture.
        size: (height, width) of the cut.
        generator: Of the image.

    Returns:
        A new array [channels, height, width] in [0, 1].
    """
    picture = pictures.numpy()[row]
    top, left = (
        int(generator.integers(0, whole - side + 1)) for whole, side in zip(picture.shape[1:], size, strict=True)
    )
    image = picture[:, top : top + size[0], left : left + size[1]]
    image = image[:, :, ::-1] if generator.random() < 0.5 else image
    return image.astype(np.float32) / np.float32(255)
