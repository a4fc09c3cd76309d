"""ImageNet-C's digital corruptions: contrast, pixelation and JPEG, by the library (Pillow) that made them.

Albumentations compresses red as blue, averages and repeats pixels by other rules, and takes the mean of the grey picture.

Hendrycks and Dietterich: Benchmarking neural network robustness to common corruptions and perturbations, ICLR 2019.
"""

from __future__ import annotations

import io
from typing import Annotated, Any

import albumentations
import cv2
import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray
from PIL import Image

from seewhy.core.settings import Share, UnitInterval, check_when_made
from seewhy.data.corruptions.imagenet_c import check_colours


@check_when_made("corruption.{}")
class Contrast(albumentations.ImageOnlyTransform):
    """Mean + factor * (value - mean), with the mean of each channel.

    Args:
        factor: What is left of the contrast, from 0 to 1.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        factor: float

    def __init__(self, factor: UnitInterval = 0.4, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.factor = factor

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[np.uint8]:
        """Flatten the picture.

        Args:
            img: uint8 [height, width, channels].
            params: Of Albumentations, which are not needed.

        Returns:
            The same shape.
        """
        means = img.mean((0, 1))
        table = np.clip(means + self.factor * (np.arange(256)[:, None] - means), 0, 255)
        changed: NDArray[Any] = cv2.LUT(img, np.rint(table).astype(np.uint8)[None])
        return changed.reshape(img.shape)  # OpenCV drops an axis of one channel


@check_when_made("corruption.{}")
class Pixelate(albumentations.ImageOnlyTransform):
    """Shrinks the picture to int(factor * side) pixels by Pillow's box filter and enlarges it again by the same filter.

    Args:
        factor: Of both sides, above 0 and at most 1; a side has at least one pixel.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        factor: float

    def __init__(self, factor: Share = 0.6, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.factor = factor

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[np.uint8]:
        """Pixelate the picture.

        Args:
            img: uint8 [height, width, channels].
            params: Of Albumentations, which are not needed.

        Returns:
            The same shape.
        """
        height, width = img.shape[:2]
        small = max(1, int(width * self.factor)), max(1, int(height * self.factor))
        box = Image.Resampling.BOX
        # Pillow would weigh three of four channels by the fourth: other pictures go channel by channel
        planes = [img] if img.shape[2] == 3 else np.moveaxis(img, 2, 0)
        changed = [np.array(Image.fromarray(plane).resize(small, box).resize((width, height), box)) for plane in planes]
        return changed[0] if img.shape[2] == 3 else np.stack(changed, 2)


@check_when_made("corruption.{}")
class JPEG(albumentations.ImageOnlyTransform):
    """Compresses and decompresses the picture with Pillow.

    Args:
        quality: From 1 to 100; fewer are worse.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        quality: int

    def __init__(self, quality: Annotated[int, Ge(1), Le(100)] = 25, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.quality = quality

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[np.uint8]:
        """Compress the picture.

        Args:
            img: uint8 [height, width, channels].
            params: Of Albumentations, which are not needed.

        Returns:
            The same shape.
        """
        check_colours(self, img)
        file = io.BytesIO()
        Image.fromarray(img if img.shape[2] == 3 else img[..., 0]).save(file, "JPEG", quality=self.quality)
        with Image.open(file) as compressed:
            return np.array(compressed).reshape(img.shape)
