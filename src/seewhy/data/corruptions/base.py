"""One corruption at several levels: plain Albumentations on uint8 pictures, drawn from (seed, picture)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import albumentations
import cv2
import numpy as np
from annotated_types import MinLen
from numpy.typing import NDArray

from seewhy.core.errors import UserError
from seewhy.core.settings import check_when_made

cv2.setNumThreads(0)  # the worker processes are the parallel part, and threads do not survive a fork

Picture: TypeAlias = NDArray[np.uint8]
"""uint8 [height, width, channels]."""

SMALL = 64
"""Pictures whose shorter side has at most this many pixels take the levels `small`."""

Transform: TypeAlias = albumentations.BasicTransform | albumentations.BaseCompose


@check_when_made("corruption")
class Corruption:
    """A list of Albumentations transforms, the weakest first; level 1 is the first, level 0 the picture itself.

    Every random number comes from (seed, pixels of the picture, name): the levels share their draws, so that a higher
    level is the same accident, only stronger. The transforms' own probabilities are set to 1.

    Args:
        levels: The transforms.
        small: Those for pictures of up to 64 pixels, where strengths are in pixels; None: the same.
        moves_pixels: Whether maps must be moved back after the corruption.
        differs: How the levels differ from ImageNet-C's and CIFAR-10-C's, in words; empty where they do not.
    """

    def __init__(
        self,
        levels: Annotated[Sequence[Transform], MinLen(1)],
        small: Annotated[Sequence[Transform], MinLen(1)] | None = None,
        moves_pixels: bool = False,
        differs: str = "",
    ) -> None:
        if small is not None and len(small) != len(levels):
            raise UserError(f"{len(levels)} levels and {len(small)} small ones: give a list of equal length")
        self.levels = list(levels)
        self.small = list(levels if small is None else small)
        self.moves_pixels = moves_pixels
        self.differs = differs
        for transform in (*self.levels, *self.small):
            _apply_always(transform)

    def corrupt(self, picture: Picture, level: int, seed: int) -> Picture:
        """Corrupt a picture.

        Args:
            picture: uint8 [height, width, channels].
            level: From 0 (untouched) to the number of levels.
            seed: Decides every random number: same seed, same bytes.

        Returns:
            A picture of the same shape.
        """
        if level == 0:
            return picture
        transform = self._find_transform(picture.shape, level)
        transform.set_random_seed(seed)
        changed: Picture = transform(image=picture)["image"]
        return changed.reshape(picture.shape)  # OpenCV drops an axis of one channel

    def trace_sources(self, shape: tuple[int, ...], level: int, seed: int) -> NDArray[np.float32]:
        """Trace where each pixel of a corrupted picture came from.

        The same transform with the same draws is given the coordinates instead of the picture.

        Args:
            shape: Of the picture.
            level: As in `corrupt`.
            seed: As in `corrupt`.

        Returns:
            float32 [height, width, 2] (x, y) in pixels, NaN where a pixel came from outside the picture.
        """
        height, width = shape[:2]
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        scale = max(height, width)
        carried = np.stack([x / scale, y / scale, np.ones_like(x)], axis=2)
        if level:
            transform = self._find_transform(shape, level)
            transform.set_random_seed(seed)
            carried = transform(image=carried)["image"]
        origins = (carried[..., :2] * scale).astype(np.float32)
        origins[carried[..., 2] < 0.999] = np.nan
        return origins

    def _find_transform(self, shape: tuple[int, ...], level: int) -> Transform:
        if not 0 < level <= len(self.levels):
            raise UserError(f"level {level} does not exist: this corruption has the levels 0 to {len(self.levels)}")
        return (self.small if min(shape[:2]) <= SMALL else self.levels)[level - 1]


def _apply_always(transform: Transform) -> None:
    transform.p = 1.0
    for child in getattr(transform, "transforms", ()):
        _apply_always(child)
