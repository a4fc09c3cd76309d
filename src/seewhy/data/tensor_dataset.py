"""Pictures that fit in memory: gathered and augmented a batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from seewhy.data.image_dataset import Corrupt, stack
from seewhy.types import Batch


class TensorImages(Dataset[Batch]):
    """uint8 pictures [n, 3, height, width] with labels [n]; `indices` are their positions in the original data set.

    `corrupt` adds the corrupted versions of each picture.
    """

    corrupt: Corrupt | None = None

    def __init__(
        self, pictures: Tensor, labels: Tensor, indices: Tensor, prefix: str, class_names: Sequence[str]
    ) -> None:
        self.pictures = pictures
        self.labels = labels
        self.indices = indices
        self.prefix = prefix
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> dict[str, str]:
        """Digests of the names and classes, and of the pixels: what tells data apart."""
        names = repr((self.prefix, self.indices.tolist(), self.labels.tolist(), list(self.class_names))).encode()
        parts = {"names": names, "pixels": self.pictures.contiguous().numpy().tobytes()}
        return {part: hashlib.blake2b(content, digest_size=8).hexdigest() for part, content in parts.items()}

    def __getitems__(self, positions: list[int]) -> Batch:
        """One batch, gathered with one index operation; its images are still uint8."""
        chosen = torch.as_tensor(positions, dtype=torch.int64)
        labels = self.labels[chosen]
        names = [f"{self.prefix}_{index:05d}" for index in self.indices[chosen].tolist()]
        words = [self.class_names[label] for label in labels.tolist()]
        pictures = self.pictures[chosen]
        corrupted = None if self.corrupt is None else stack([self.corrupt(picture) for picture in pictures])
        return Batch(pictures, labels, names, names, words, [], corrupted=corrupted)

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])


def augment(pictures: Tensor, shift: int) -> Tensor:
    """Each picture of [batch, 3, height, width] flipped with probability 1/2 and moved by up to `shift` pixels.

    The border that a move uncovers is filled by reflection. Drawn from torch's global generator.
    """
    batch, _, height, width = pictures.shape
    padded = functional.pad(pictures.float(), (shift,) * 4, mode="reflect").to(pictures.dtype)
    top, left = torch.randint(0, 2 * shift + 1, (2, batch, 1), device=pictures.device)
    rows = top + torch.arange(height, device=pictures.device)
    columns = left + torch.arange(width, device=pictures.device)
    flipped = torch.rand(batch, 1, device=pictures.device) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    item = torch.arange(batch, device=pictures.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[item, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
