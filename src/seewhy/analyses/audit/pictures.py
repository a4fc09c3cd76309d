"""The images of an audit: their pixels in a file, and some of them, small ones and averages in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import UserError
from seewhy.core.types import Batch, Images

SIDE = 32
"""Cells along a side of the small maps and pictures."""
REMEMBERED = 12
"""Averages of images."""
Values = NDArray[np.float64]
Rows = NDArray[np.int64]


class Pictures:
    """The images of an audit: their pixels lie in a file, a few at a time in memory.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.paths: list[str] = []
        self.label_names: list[str] = []
        self.shape: tuple[int, ...] = ()
        self._spreads: list[Tensor] = []
        self._averages: dict[bytes, Tensor] = {}

    def add(self, batch: Batch) -> None:
        """Append a batch.

        Args:
            batch: All of one size.

        Raises:
            UserError: Its images have another size than those before.
        """
        values = batch.images.detach().cpu().numpy().astype(np.float32)
        if not self.names:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            self.shape = values.shape[1:]
        if values.shape[1:] != self.shape:
            raise UserError(f"an audit needs images of one size, not {values.shape[1:]} beside {self.shape}")
        with self.path.open("ab") as file:
            file.write(values.tobytes())
        self._spreads.append(torch.from_numpy(values).flatten(2).std(2))
        self.names += batch.names
        self.paths += batch.paths
        self.label_names += batch.label_names

    def __len__(self) -> int:
        return len(self.names)

    def keep(self, rows: Rows) -> None:
        """Keep some images and forget the others.

        Args:
            rows: Of the images that are kept, in order.
        """
        if len(rows) == len(self):
            return
        aside = self.path.with_suffix(".part")
        with aside.open("wb") as file:
            for start in range(0, len(rows), 64):
                file.write(self.gather(rows[start : start + 64]).numpy().tobytes())
        aside.replace(self.path)
        self._spreads = [torch.cat(self._spreads)[torch.from_numpy(rows)]]
        self._averages.clear()
        for values in (self.names, self.paths, self.label_names):
            values[:] = [values[row] for row in rows.tolist()]

    def gather(self, rows: Rows | Sequence[int]) -> Images:
        """Read some images.

        Args:
            rows: Of the images.

        Returns:
            float32 [n, channels, height, width].
        """
        stored = np.memmap(self.path, np.float32, "r", shape=(len(self), *self.shape))
        return torch.from_numpy(np.array(stored[np.asarray(rows, dtype=np.int64)]))

    def shrink(self, rows: Rows) -> Tensor:
        """Read some images in small, so that those of a class are in memory together.

        Args:
            rows: Of the images.

        Returns:
            float32 [n, channels, at most 32, at most 32].
        """
        parts = [shrink(self.gather(rows[start : start + 64])) for start in range(0, len(rows), 64)]
        return torch.cat(parts) if parts else torch.zeros(0, *self.shape)

    def average(self, rows: Rows) -> Tensor:
        """Average images, a few at a time; the last averages are remembered.

        Args:
            rows: Of the images, at least one.

        Returns:
            float32 [channels, height, width].
        """
        key = rows.tobytes()
        average = self._averages.pop(key, None)
        if average is None:
            total = torch.zeros(self.shape, dtype=torch.float64)
            for start in range(0, len(rows), 64):
                total += self.gather(rows[start : start + 64]).sum(0)
            average = (total / len(rows)).float()
            while len(self._averages) >= REMEMBERED:
                self._averages.pop(next(iter(self._averages)))
        self._averages[key] = average
        return average

    def average_spreads(self, rows: Rows) -> Tensor:
        """Average how far the pixels of a channel spread inside of an image.

        Args:
            rows: Of the images, at least one.

        Returns:
            Mean standard deviation, float32 [channels].
        """
        if len(self._spreads) > 1:
            self._spreads = [torch.cat(self._spreads)]
        return self._spreads[0][torch.from_numpy(rows)].mean(0)


def shrink(images: Tensor) -> Tensor:
    """Average pixels over cells such that no side has more than 32.

    Args:
        images: Float [n, channels, height, width].

    Returns:
        Float [n, channels, at most 32, at most 32].
    """
    height, width = (min(SIDE, side) for side in images.shape[2:])
    return functional.adaptive_avg_pool2d(images, (height, width))


def split_evenly(rows: Rows, most: int) -> Rows:
    """Take at most so many rows, spread over all.

    Args:
        rows: Any.
        most: How many at most.

    Returns:
        Some of them in order.
    """
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
