"""Masks of objects: pictures beside the images that are not black where the object is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from seewhy.core.errors import UnreadableImage, UserError
from seewhy.core.facts import Facts
from seewhy.data.images import MAX_PIXELS, read_image
from seewhy.data.preprocessing import resize_and_crop

SUFFIXES = (".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")


def read_mask(path: Path, size: tuple[int, int], max_pixels: int = MAX_PIXELS) -> Tensor:
    """bool [height, width], true where a pixel is not black (in a JPEG: brighter than half).

    UnreadableImage where the file cannot be read or is not of the image's (height, width).
    """
    picture = read_image(path, max_pixels).amax(0)
    if tuple(picture.shape) != size:
        raise UnreadableImage(f"it has {picture.shape[1]}x{picture.shape[0]} pixels and the image {size[1]}x{size[0]}")
    return picture > (127 if path.suffix.lower() in (".jpg", ".jpeg") else 0)


def fit_mask(mask: Tensor, facts: Facts) -> Tensor:
    """The mask resized and cropped as its image is: bool [size, size], true where at least half of a pixel is."""
    smooth = dataclasses.replace(facts, interpolation="bilinear")
    return resize_and_crop(mask.to(torch.uint8)[None] * 255, smooth)[0] > 127


def find_masks(images: Sequence[Path], bases: Sequence[Path], masks: str) -> list[Path | None]:
    """The mask of each image: the file in the folder `masks` with the same path below its base, whatever its suffix.

    None where an image has none; UserError where there is no such folder or no image has one.
    """
    folder = Path(masks).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.masks={masks} is not a folder")
    paths = [_find_mask(folder / image.relative_to(base)) for image, base in zip(images, bases, strict=True)]
    if not any(paths):
        example = images[0].relative_to(bases[0]).with_suffix(".png")
        raise UserError(f"data.masks={masks} has no mask for any image; the one of {images[0].name} would be {example}")
    return paths


def _find_mask(path: Path) -> Path | None:
    return next((mask for suffix in SUFFIXES if (mask := path.with_suffix(suffix)).is_file()), None)
