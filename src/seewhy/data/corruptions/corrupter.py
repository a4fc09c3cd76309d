"""All corruptions of one picture at once: the picture is decoded once and its random numbers belong to it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from seewhy.core.errors import UserError
from seewhy.core.random import derive_seed
from seewhy.core.types import Corrupted, Facts
from seewhy.data.loading import compute_resized_size, resize, resize_and_crop

if TYPE_CHECKING:
    from seewhy.data.corruptions.base import Corruption

LARGEST = 2**25
"""Bytes of corrupted pictures in one batch: some batches wait in shared memory, which may be only 64 MB."""


class CorruptionStep(NamedTuple):
    """One corruption at one level."""

    corruption: str
    """Name of the corruption."""
    level: int
    """From 1 to the number of its levels."""


class Corrupter:
    """Maps a picture uint8 [3, height, width] to its corrupted versions at the classifier's size, one for each step.

    Pictures larger than the classifier needs are first resized as it would resize them, and cut last: published
    strengths are in pixels of such pictures, and a strength means the same for a thumbnail and for a photograph.
    Smaller pictures are corrupted at their own size and then enlarged. An unchanged picture is the clean image to the
    bit.

    Args:
        corruptions: By name.
        facts: What the classifier asks of images (size, crop, interpolation).
        seed: With the picture decides every random number.
    """

    def __init__(self, corruptions: Mapping[str, Corruption], facts: Facts, seed: int) -> None:
        self.corruptions = dict(corruptions)
        self.facts = facts
        self.seed = seed
        self.steps = [
            CorruptionStep(name, level)
            for name, corruption in corruptions.items()
            for level in range(1, 1 + len(corruption.levels))
        ]
        self.moving = [number for number, step in enumerate(self.steps) if corruptions[step.corruption].moves_pixels]

    def __call__(self, picture: Tensor) -> Corrupted:
        """Pictures uint8 [steps, 3, size, size], and for the steps that move pixels where each came from."""
        start = time.perf_counter()
        size = self.facts.size
        if min(picture.shape[-2:]) > size / self.facts.crop:
            picture = resize(picture, self.facts)
        seeds = {name: derive_seed(self.seed, picture, f"corruption {name}") % 2**32 for name in self.corruptions}
        array = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
        corrupted = (
            self.corruptions[step.corruption].corrupt(array, step.level, seeds[step.corruption]) for step in self.steps
        )
        pictures = [resize_and_crop(torch.from_numpy(each).permute(2, 0, 1), self.facts) for each in corrupted]
        moving = [self.steps[number] for number in self.moving]
        sources = [
            self._trace_sources(self.corruptions[step.corruption], array.shape, step.level, seeds[step.corruption])
            for step in moving
        ]
        return Corrupted(
            torch.stack(pictures) if pictures else torch.zeros(0, 3, size, size, dtype=torch.uint8),
            torch.stack(sources) if sources else torch.zeros(0, 2, size, size),
            torch.tensor(time.perf_counter() - start),
        )

    def _trace_sources(self, corruption: Corruption, shape: tuple[int, ...], level: int, seed: int) -> Tensor:
        """Sources [2, size, size] in pixels of the classifier's image, carried through resizing and cutting."""
        origins = torch.from_numpy(corruption.trace_sources(shape, level, seed)).permute(2, 0, 1)
        old, new = shape[:2], compute_resized_size(shape[0], shape[1], self.facts)
        enlarged = functional.resize(origins, list(new), antialias=False) if tuple(old) != new else origins
        left, top = ((new[axis] - self.facts.size) // 2 for axis in (1, 0))
        x = (enlarged[0] + 0.5) * new[1] / old[1] - 0.5 - left
        y = (enlarged[1] + 0.5) * new[0] / old[0] - 0.5 - top
        cut = functional.center_crop(torch.stack([x, y]), [self.facts.size, self.facts.size])
        return cut.float()


def limit_batch_size(batch_size: int, corrupter: Corrupter | None) -> int:
    """`batch_size`, or fewer where their corrupted versions would be too large for one batch; at least one."""
    if corrupter is None or not corrupter.steps:
        return batch_size
    bytes_each = (
        len(corrupter.steps) * 3 * corrupter.facts.size**2 + len(corrupter.moving) * 8 * corrupter.facts.size**2
    )
    return max(1, min(batch_size, LARGEST // bytes_each))


def count_workers(workers: int | str) -> int:
    """Count the processes that corrupt pictures.

    Args:
        workers: Their number; 0 corrupts in the main process; `auto`: half of this process's cores, from 1 to 8.

    Returns:
        The number.

    Raises:
        UserError: It is negative or no whole number.
    """
    if workers == "auto":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(8, max(1, cores // 2))
    if not isinstance(workers, int) or workers < 0:
        raise UserError(f"callbacks.robustness.workers={workers} must be auto or a whole number from 0")
    return workers
