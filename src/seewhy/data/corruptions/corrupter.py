"""All corruptions of one picture at once: the picture is decoded once and its random numbers belong to it."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.random import derive_seed
from seewhy.core.types import Corrupted
from seewhy.core.words import count_noun
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
    """Maps a picture uint8 [channels, height, width] to its corrupted versions at the classifier's size, one for each step.

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
        if facts.channels != 3:
            check_channels(self.corruptions, facts.channels)
        self.moving = [number for number, step in enumerate(self.steps) if corruptions[step.corruption].moves_pixels]

    def __call__(self, picture: Tensor) -> Corrupted:
        """Pictures uint8 [steps, channels, height, width], and for the steps that move pixels where each came from."""
        start = time.perf_counter()
        height, width = picture.shape[-2:]
        if math.prod(compute_resized_size(height, width, self.facts)) < height * width:
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
        channels, shape = self.facts.channels, self.facts.shape
        return Corrupted(
            torch.stack(pictures) if pictures else torch.zeros(0, channels, *shape, dtype=torch.uint8),
            torch.stack(sources) if sources else torch.zeros(0, 2, *shape),
            torch.tensor(time.perf_counter() - start),
        )

    def _trace_sources(self, corruption: Corruption, shape: tuple[int, ...], level: int, seed: int) -> Tensor:
        """Sources [2, height, width] in pixels of the classifier's image, carried through resizing and cutting."""
        origins = torch.from_numpy(corruption.trace_sources(shape, level, seed)).permute(2, 0, 1)
        old, new = shape[:2], compute_resized_size(shape[0], shape[1], self.facts)
        enlarged = functional.resize(origins, list(new), antialias=False) if tuple(old) != new else origins
        left, top = ((new[axis] - self.facts.shape[axis]) // 2 for axis in (1, 0))
        x = (enlarged[0] + 0.5) * new[1] / old[1] - 0.5 - left
        y = (enlarged[1] + 0.5) * new[0] / old[0] - 0.5 - top
        cut = functional.center_crop(torch.stack([x, y]), list(self.facts.shape))
        return cut.float()


def check_channels(corruptions: Mapping[str, Corruption], channels: int) -> None:
    """Check by a picture of noise that corruptions are defined for a number of channels.

    Args:
        corruptions: By name.
        channels: Of the pictures.

    Raises:
        UserError: One refuses such a picture, gives another shape, or changes nothing at any level.
    """
    noise = np.random.default_rng(0).integers(0, 256, (96, 80, channels), dtype=np.uint8)
    for name, corruption in corruptions.items():
        reason = ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                changed = [corruption.corrupt(noise, level, 0) for level in range(1, 1 + len(corruption.levels))]
            if all(np.array_equal(picture, noise) for picture in changed):
                reason = "it changes nothing"
        except Exception as error:  # of OpenCV and Albumentations, of any kind
            reason = str(error).strip().split("\n")[0] or type(error).__name__
        if reason:
            raise UserError(
                f"corruption={name} is not defined for pictures of {count_noun(channels, 'channel')} "
                f"({reason}): leave it out"
            )


def limit_batch_size(batch_size: int, corrupter: Corrupter | None) -> int:
    """`batch_size`, or fewer where their corrupted versions would be too large for one batch; at least one."""
    if corrupter is None or not corrupter.steps:
        return batch_size
    pixels = math.prod(corrupter.facts.shape)
    bytes_each = pixels * (len(corrupter.steps) * corrupter.facts.channels + len(corrupter.moving) * 8)
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
