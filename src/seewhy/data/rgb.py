"""From a decoded image in any of Pillow's modes to RGB, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from seewhy.errors import UnreadableImage

BAND = 4_000_000
"""Pixels that are converted at once: what a conversion needs beside its result does not grow with the image."""


def rgb(image: Image.Image) -> np.ndarray:
    """uint8 [3, height, width] of an image; UnreadableImage where its values or its mode have no way to RGB."""
    picture = np.empty((3, image.height, image.width), np.uint8)
    deep = image.mode in ("F", "I") or image.mode.startswith("I;16")
    scale = _scale(image) if deep else 1.0
    transparent = image.has_transparency_data
    for rows, band in _bands(image):
        if deep:
            picture[:, rows] = _grey(band, scale)
        else:
            colours = _colours(band, transparent)
            for channel in range(3):  # three times as quick as all at once, which numpy writes pixel by pixel
                picture[channel, rows] = colours[..., channel]
    return picture


def _bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    step = max(1, BAND // image.width)
    for top in range(0, image.height, step):
        bottom = min(image.height, top + step)
        whole = step >= image.height
        yield slice(top, bottom), image if whole else image.crop((0, top, image.width, bottom))


def _colours(band: Image.Image, transparent: bool) -> np.ndarray:
    try:
        if transparent:
            band = band.convert("RGBA")
            band = Image.alpha_composite(Image.new("RGBA", band.size, "white"), band)
        return np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    except ValueError:
        raise UnreadableImage(f"its colour mode {band.mode} has no way to RGB") from None


def _scale(image: Image.Image) -> float:
    """What a floating-point value is multiplied with; checks the range of these and of 16-bit values."""
    ends = np.array([[band.min(), band.max()] for _, part in _bands(image) for band in [np.asarray(part)]])
    least, most = ends[:, 0].min(), ends[:, 1].max()
    if image.mode != "F":
        if least < 0 or most > 65535:
            raise UnreadableImage(f"its grey values {least}..{most} are outside 0..65535")
        return 1.0
    if not np.isfinite(ends).all():
        raise UnreadableImage("it holds values that are not finite")
    if least < 0 or most > 255:
        raise UnreadableImage(f"its floating-point values {least:g}..{most:g} are in neither [0, 1] nor [0, 255]")
    return 255.0 if most <= 1 else 1.0


def _grey(band: Image.Image, scale: float) -> np.ndarray:
    values = np.asarray(band)
    if band.mode == "F":
        grey = np.rint(values * np.float32(scale)).astype(np.uint8)
    else:
        grey = ((values.astype(np.int64) + 128) // 257).astype(np.uint8)
    transparent = band.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return grey
