"""From one image file, whatever its kind, to an RGB picture."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from seewhy.errors import UnreadableImage

MAX_PIXELS = 100_000_000
MAX_ASPECT_RATIO = 100
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")


def read_image(path: str | Path) -> Tensor:
    """The picture in a file as uint8 [3, height, width], RGB, turned as its EXIF orientation asks.

    Of an animation the first frame. Transparency shows white behind it; 16-bit grey v becomes v / 257; floating-point
    grey is scaled from [0, 1], or taken as it is up to 255. Raises UnreadableImage with the reason where the file is
    missing, damaged, over MAX_PIXELS (known from the header, before decoding) or longer than MAX_ASPECT_RATIO:1.
    """
    path = Path(path)
    _check_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _decode(path)
    return torch.from_numpy(np.ascontiguousarray(_rgb(image).transpose(2, 0, 1)))


def picture_of(image: Image.Image) -> Tensor:
    """A Pillow image of any mode as uint8 [3, height, width], as `read_image` makes it of a file with that content."""
    _check_size(*image.size)
    return torch.from_numpy(np.ascontiguousarray(_rgb(_upright(image)).transpose(2, 0, 1)))


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnreadableImage("the link leads back to itself") from None
        if isinstance(error, FileNotFoundError):
            linked = path.is_symlink()
            raise UnreadableImage("the link points to nothing" if linked else "there is no such file") from None
        raise UnreadableImage(_words(error)) from None
    if not os.access(path, os.R_OK):
        raise UnreadableImage("permission to read it is denied")
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableImage("it is a folder, not an image file")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImage("it is not a regular file")
    if status.st_size == 0:
        raise UnreadableImage("the file is empty")


def _decode(path: Path) -> Image.Image:
    """The first frame, upright. Pillow raises errors of many kinds on damaged files; all mean that it is unreadable."""
    try:
        with path.open("rb") as file:
            image: Image.Image = Image.open(file, formats=FORMATS)
            _check_size(*image.size)
            image.load()
            return _upright(image)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError:
        raise UnreadableImage(f"it has more than {MAX_PIXELS // 1_000_000} million pixels") from None
    except UnidentifiedImageError:
        raise UnreadableImage("its content is not an image of a known format") from None
    except OSError as error:
        raise UnreadableImage(_words(error)) from None
    except Exception as error:
        raise UnreadableImage(f"the file is damaged ({type(error).__name__}: {error})") from error


def _check_size(width: int, height: int) -> None:
    if min(width, height) < 1:
        raise UnreadableImage(f"{width} x {height} pixels leave nothing to see")
    if width * height > MAX_PIXELS:
        raise UnreadableImage(f"{width} x {height} is more than {MAX_PIXELS // 1_000_000} million pixels")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise UnreadableImage(
            f"{width} x {height} pixels is longer than {MAX_ASPECT_RATIO}:1: "
            "its longer side would be huge once the shorter one fits the classifier"
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = ImageOps.exif_transpose(image)
    except Exception:
        # Damaged EXIF data says nothing about the pixels: show them as they are stored.
        return image
    return turned if turned is not None else image


def _words(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "permission to read it is denied"
    if error.errno is not None:
        return f"the system cannot read it ({error.strerror})"
    if "truncated" in str(error).lower():
        return "the file is truncated"
    return f"the file is damaged ({error})"


def _rgb(image: Image.Image) -> np.ndarray:
    """uint8 [height, width, 3] of an image in any of Pillow's modes."""
    if image.mode == "F" or image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        grey = _from_float(values) if image.mode == "F" else _from_16_bit(values.astype(np.int64))
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            grey[values == transparent] = 255
        return np.repeat(grey[:, :, None], 3, axis=2)
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return np.array(image.convert("RGB"))
    except ValueError:
        raise UnreadableImage(f"its colour mode {image.mode} has no way to RGB") from None


def _from_16_bit(values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImage(f"its grey values {values.min()}..{values.max()} are outside 0..65535")
    return ((values + 128) // 257).astype(np.uint8)


def _from_float(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise UnreadableImage("it holds values that are not finite")
    if values.min() < 0 or values.max() > 255:
        raise UnreadableImage(
            f"its floating-point values {values.min():g}..{values.max():g} are in neither [0, 1] nor [0, 255]"
        )
    scaled: np.ndarray = np.rint(values * 255 if values.max() <= 1 else values).astype(np.uint8)
    return scaled
