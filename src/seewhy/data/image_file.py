"""From one image file, whatever its kind, to an RGB picture."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from pathlib import Path

import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from seewhy.data.image_kind import image_kind
from seewhy.data.rgb import rgb
from seewhy.errors import UnreadableImage

MAX_PIXELS = 100_000_000
"""Of the largest image that is read; it takes at most about 8 bytes of memory for each pixel."""
MAX_ASPECT_RATIO = 100
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The picture in a file as uint8 [3, height, width], RGB, turned as its EXIF orientation asks.

    Of an animation the first frame. Transparency shows white behind it; 16-bit grey v becomes v / 257; floating-point
    grey is scaled from [0, 1], or taken as it is up to 255. Raises UnreadableImage with the reason where the file is
    missing, damaged, over `max_pixels` (known from the header, before decoding) or longer than MAX_ASPECT_RATIO:1.
    """
    path = Path(path)
    _check_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _decode(path, max_pixels)
        return torch.from_numpy(rgb(image))


def picture_of(image: Image.Image) -> Tensor:
    """A Pillow image of any mode as uint8 [3, height, width], as `read_image` makes it of a file with that content."""
    _check_size(*image.size, MAX_PIXELS)
    return torch.from_numpy(rgb(_upright(image)))


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


def _decode(path: Path, max_pixels: int) -> Image.Image:
    """The first frame, upright. Pillow raises errors of many kinds on damaged files; all mean that it is unreadable."""
    pillows = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None  # `_check_size` comes before any pixel is decoded
        with path.open("rb") as file:
            image: Image.Image = Image.open(file, formats=FORMATS)
            _check_size(*image.size, max_pixels)
            image.load()
            return _upright(image)
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(f"its content is not an image of a known format{_found(path)}") from None
    except OSError as error:
        raise UnreadableImage(_words(error)) from None
    except Exception as error:
        raise UnreadableImage(f"the file is damaged ({type(error).__name__}: {error})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = pillows


def _found(path: Path) -> str:
    with path.open("rb") as file:
        kind = image_kind(file.read(512))
    return f": {kind}" if kind else ""


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if min(width, height) < 1:
        raise UnreadableImage(f"{width} x {height} pixels leave nothing to see")
    if width * height > max_pixels:
        raise UnreadableImage(f"{width} x {height} is more than the {max_pixels:,} pixels of data.max_pixels")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise UnreadableImage(
            f"{width} x {height} pixels is longer than {MAX_ASPECT_RATIO}:1: "
            "its longer side would be huge once the shorter one fits the classifier"
        )


def _upright(image: Image.Image) -> Image.Image:
    """The image itself where nothing says that it is turned: Pillow would copy it."""
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image
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
