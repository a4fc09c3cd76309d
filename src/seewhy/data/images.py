"""Reading one image file or mask, whatever its kind, or saying why it cannot be read."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from seewhy.core.errors import UnreadableImage, UserError
from seewhy.core.facts import Facts
from seewhy.core.files import refuse_address
from seewhy.core.words import count_noun
from seewhy.data.arrays import read_array, scale_values
from seewhy.data.loading import resize_and_crop, to_grey

MAX_PIXELS = 100_000_000
"""Of the largest image that is read; it takes at most about 8 bytes of memory for each pixel."""
MAX_ASPECT_RATIO = 100
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")
BAND = 4_000_000
"""Pixels that are converted at once: what a conversion needs beside its result does not grow with the image."""

SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG", True),
    (b"\xff\xd8\xff", "JPEG", True),
    (b"GIF8", "GIF", True),
    (b"II*\0", "TIFF", True),
    (b"MM\0*", "TIFF", True),
    (b"BM", "BMP", True),
    (b"%PDF", "PDF", False),
    (b"PK\x03\x04", "a zip archive", False),
    (b"\x1f\x8b", "gzip", False),
    (b"\x7fELF", "a program", False),
    (b"8BPS", "a Photoshop document", False),
    (b"\xff\x0a", "JPEG XL", False),
    (b"\0\0\0\x0cJXL ", "JPEG XL", False),
    (b"\0\0\0\x0cjP  ", "JPEG 2000", False),
)
"""First bytes, name, whether files of that kind are read."""

BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF"}


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS, channels: int = 3, scale: float | None = None) -> Tensor:
    """Read an image file as a picture of some channels, turned as its EXIF orientation asks.

    Three channels are RGB and one is grey, whatever the file holds. Transparency shows white behind it; of an animation
    the first frame is taken; 16-bit grey v becomes v / 257, or v / 65535 without rounding for one channel; floating-point
    grey is scaled from [0, 1], or taken as it is up to 255. Any other number of channels must be that of the file: two of
    grey and four of colours with transparency as they are stored, any number of the bands or pages of a TIFF file. A .npy
    file holds [height, width, channels] or [channels, height, width].

    Args:
        path: The file.
        max_pixels: The largest image to decode; the size is read from the header.
        channels: Of the picture.
        scale: The stored value that becomes 1; larger ones become 1 too. None: the largest of the file's type.

    Returns:
        [channels, height, width]: uint8, or float32 in [0, 1] where 8 bits would not hold it.

    Raises:
        UnreadableImage: The file is missing, damaged, over `max_pixels`, longer than MAX_ASPECT_RATIO:1, or has other
            channels.
    """
    path = Path(path)
    _check_file(path)
    check_size = partial(_check_size, max_pixels=max_pixels)
    bands = path.suffix.lower() in (".tif", ".tiff") and channels not in (1, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix.lower() == ".npy" or bands:
            return read_array(path, channels, check_size, scale)
        return _convert(_decode(path, max_pixels), channels, scale)


def convert_pillow(image: Image.Image, channels: int = 3) -> Tensor:
    """A Pillow image of any mode as a picture, as `read_image` makes it of a file with that content."""
    _check_size(*image.size, MAX_PIXELS)
    return _convert(_turn_upright(image), channels)


def _convert(image: Image.Image, channels: int, scale: float | None = None) -> Tensor:
    """[channels, height, width] of a decoded image."""
    deep = image.mode in ("F", "I") or image.mode.startswith("I;16")
    if deep and (channels == 1 or scale is not None):
        values = np.asarray(image)
        grey = scale_values(values if image.mode == "F" else _narrow(values), _choose_scale(image, scale))
        return torch.from_numpy(np.array(grey)).expand(channels, *grey.shape).contiguous()
    if channels == 3:
        picture = convert_to_rgb(image)
    elif channels == 1:
        picture = _convert_to_grey(image)
    else:
        picture = _read_bands(image, channels)
    if scale is not None:
        picture = scale_values(picture, scale)
    return torch.from_numpy(picture)


def _choose_scale(image: Image.Image, scale: float | None) -> float | None:
    """Of floating-point grey in [0, 255], 255, as for RGB."""
    return 255.0 if scale is None and image.mode == "F" and _find_scale(image) == 1.0 else scale


def _narrow(values: np.ndarray) -> np.ndarray:
    """The whole numbers of a deep image as uint16; UnreadableImage where they are none."""
    least, most = int(values.min()), int(values.max())
    if least < 0 or most > 65535:
        raise UnreadableImage(f"its grey values {least}..{most} are outside 0..65535")
    return values.astype(np.uint16)


def _convert_to_grey(image: Image.Image) -> np.ndarray:
    """uint8 [1, height, width]: a grey image as it is, colours by their luminance (ITU-R 601)."""
    if image.mode == "L" and not image.has_transparency_data:
        return np.array(image)[None]
    colours = convert_to_rgb(image)
    return to_grey(torch.from_numpy(colours)).numpy()


def _read_bands(image: Image.Image, channels: int) -> np.ndarray:
    """uint8 [channels, height, width] of two channels (grey and transparency) or four (colours and transparency)."""
    mode = {2: "LA", 4: "RGBA"}.get(channels, "")
    plain = image.mode in ("L", "LA", "1") if channels == 2 else image.mode not in ("L", "LA", "1")
    if mode and image.has_transparency_data and plain:
        return np.ascontiguousarray(np.asarray(image.convert(mode)).transpose(2, 0, 1))
    count = len(image.getbands())
    raise UnreadableImage(f"it has {count_noun(count, 'channel')} ({image.mode}), and the network takes {channels}")


def read_picture_size(path: Path) -> tuple[int, int] | None:
    """Read the size of a picture from the header of its file.

    Args:
        path: The file.

    Returns:
        (height, width), turned as its EXIF orientation asks; None where the header does not say it.
    """
    try:
        _check_file(path)  # opening a pipe would wait for ever
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            image = Image.open(file, formats=FORMATS)
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return image.size if turned else (image.height, image.width)
    except Exception:  # of Pillow, of any kind: what is wrong with the file is said when it is read
        return None


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnreadableImage("the link leads back to itself") from None
        if isinstance(error, FileNotFoundError):
            linked = path.is_symlink()
            raise UnreadableImage("the link points to nothing" if linked else "there is no such file") from None
        raise UnreadableImage(_describe_error(error)) from None
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
            return _turn_upright(image)
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(f"its content is not an image of a known format{_describe_content(path)}") from None
    except OSError as error:
        raise UnreadableImage(_describe_error(error)) from None
    except Exception as error:
        raise UnreadableImage(f"the file is damaged ({type(error).__name__}: {error})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = pillows


def _describe_content(path: Path) -> str:
    with path.open("rb") as file:
        kind = describe_kind(file.read(512))
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


def _turn_upright(image: Image.Image) -> Image.Image:
    """The image itself where nothing says that it is turned: Pillow would copy it."""
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image
        turned = ImageOps.exif_transpose(image)
    except Exception:
        # Damaged EXIF data says nothing about the pixels: show them as they are stored.
        return image
    return turned if turned is not None else image


def _describe_error(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "permission to read it is denied"
    if error.errno is not None:
        return f"the system cannot read it ({error.strerror})"
    if "truncated" in str(error).lower():
        return "the file is truncated"
    return f"the file is damaged ({error})"


def convert_to_rgb(image: Image.Image) -> np.ndarray:
    """uint8 [3, height, width] of an image; UnreadableImage where its values or its mode have no way to RGB."""
    picture = np.empty((3, image.height, image.width), np.uint8)
    deep = image.mode in ("F", "I") or image.mode.startswith("I;16")
    scale = _find_scale(image) if deep else 1.0
    transparent = image.has_transparency_data
    for rows, band in _split_bands(image):
        if deep:
            picture[:, rows] = _convert_grey(band, scale)
        else:
            colours = _convert_colours(band, transparent)
            for channel in range(3):  # three times as quick as all at once, which numpy writes pixel by pixel
                picture[channel, rows] = colours[..., channel]
    return picture


def _split_bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    step = max(1, BAND // image.width)
    for top in range(0, image.height, step):
        bottom = min(image.height, top + step)
        single = step >= image.height
        yield slice(top, bottom), image if single else image.crop((0, top, image.width, bottom))


def _convert_colours(band: Image.Image, transparent: bool) -> np.ndarray:
    try:
        if transparent:
            band = band.convert("RGBA")
            band = Image.alpha_composite(Image.new("RGBA", band.size, "white"), band)
        return np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    except ValueError:
        raise UnreadableImage(f"its colour mode {band.mode} has no way to RGB") from None


def _find_scale(image: Image.Image) -> float:
    """What a floating-point value is multiplied with; checks the range of these and of 16-bit values."""
    arrays = (np.asarray(band) for _, band in _split_bands(image))
    ends = np.array([[array.min(), array.max()] for array in arrays])
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


def _convert_grey(band: Image.Image, scale: float) -> np.ndarray:
    values = np.asarray(band)
    if band.mode == "F":
        grey = np.rint(values * np.float32(scale)).astype(np.uint8)
    else:
        grey = ((values.astype(np.int64) + 128) // 257).astype(np.uint8)
    transparent = band.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return grey


def describe_kind(start: bytes) -> str:
    r"""What the first bytes of a file say of its kind; empty where they say nothing.

    >>> describe_kind(b"\0\0\0\x18ftypheic"), describe_kind(b"Dear all,")
    ('it is HEIC, which is not read', 'it is text')
    """
    if start[4:8] == b"ftyp":
        return f"it is {BRANDS.get(start[8:12], 'a video or audio file')}, which is not read"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "it begins as WEBP and is damaged"
    for signature, name, read in SIGNATURES:
        if start.startswith(signature):
            return f"it begins as {name} and is damaged" if read else f"it is {name}, which is not read"
    if start and not any(start):
        return "it begins with nothing but zeros"
    return _describe_text(start)


def _describe_text(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text:
        return "it is SVG, which is not read"
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is a web page"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run git lfs pull"
    plain = all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
    return "it is text" if start and plain and _is_utf8(start) else ""


def _is_utf8(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4
    return True


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
    """The mask resized and cropped as its image is: bool [height, width], true where at least half of a pixel is."""
    smooth = dataclasses.replace(facts, interpolation="bilinear")
    return resize_and_crop(mask.to(torch.uint8)[None] * 255, smooth)[0] > 127


def find_masks(images: Sequence[Path], bases: Sequence[Path], masks: str) -> list[Path | None]:
    """The mask of each image: the file in the folder `masks` with the same path below its base, whatever its suffix.

    None where an image has none; UserError where there is no such folder or no image has one.
    """
    refuse_address("data.masks", masks)
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
