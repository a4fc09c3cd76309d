"""Pictures of any number of channels, as they lie in .npy files and TIFF files of many bands."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.core.errors import UnreadableImage

CLEAR, END = 256, 257
"""Codes of LZW that begin a new table and end the data."""
LARGEST_HEADER = 10_000
"""Bytes of the header of a .npy file, as numpy bounds it."""


def read_array(path: Path, channels: int, check_size: Callable[[int, int], None], scale: float | None = None) -> Tensor:
    """Read a picture from a .npy file, or from a TIFF file whose bands or pages are the channels.

    Nothing in the file is executed: arrays of Python objects are refused.

    Args:
        path: The file.
        channels: How many the picture must have.
        check_size: Called with width and height before any value is read.
        scale: As in `scale_values`.

    Returns:
        [channels, height, width]: uint8 where the values are and `scale` is None, else float32 in [0, 1].

    Raises:
        UnreadableImage: The file is damaged or of another kind, or its values are not those of such a picture.
    """
    return (_read_npy if path.suffix.lower() == ".npy" else _read_tiff)(path, channels, check_size, scale)


def find_channel_axis(shape: tuple[int, ...], channels: int) -> int:
    """Find which axis of an array holds the channels.

    >>> find_channel_axis((160, 192, 13), 13), find_channel_axis((13, 160, 192), 13), find_channel_axis((160, 192), 1)
    (2, 0, -1)

    Args:
        shape: Of the array.
        channels: How many channels there must be.

    Returns:
        0 or 2; -1 where two axes are rows and columns of a single channel.

    Raises:
        UnreadableImage: The array has no axis or two axes of that length.
    """
    if len(shape) == 2 and channels == 1:
        return -1
    words = " x ".join(map(str, shape)) or "single"
    axes = [axis for axis in (0, 2) if len(shape) == 3 and shape[axis] == channels]
    if not axes:
        wanted = f"[height, width, {channels}] or [{channels}, height, width]"
        also = " or [height, width]" if channels == 1 else ""
        raise UnreadableImage(f"its array of {words} values is not {wanted}{also}, which the network takes")
    if len(axes) == 2 and channels != 1:
        raise UnreadableImage(f"its array of {words} values has {channels} at both ends: which are the channels?")
    return axes[-1]


def scale_values(values: NDArray[Any], scale: float | None = None) -> NDArray[Any]:
    """Scale stored values to [0, 1].

    Args:
        values: Of any shape.
        scale: The stored value that becomes 1; larger ones become 1 too. None: the largest of an unsigned type (255,
            65,535), 1 for floating-point values.

    Returns:
        float32; uint8 values as they are where `scale` is None.

    Raises:
        UnreadableImage: They are negative, not finite, above 1 without a scale, or of a type without a largest value.
    """
    kind = values.dtype.kind
    if kind == "b":
        return values.astype(np.float32)
    if kind not in "uif":
        raise UnreadableImage(f"its values are of the type {values.dtype}, not numbers of a picture")
    if kind == "f" and not np.isfinite(values).all():
        raise UnreadableImage("it holds values that are not finite")
    least, most = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if least < 0:
        raise UnreadableImage(f"its values reach from {least:g} to {most:g}: a picture has none below 0")
    if scale is not None:
        return np.minimum(values.astype(np.float64) / scale, 1).astype(np.float32)
    if values.dtype == np.uint8:
        return values
    if kind == "u":
        return (values.astype(np.float64) / np.iinfo(values.dtype).max).astype(np.float32)
    if kind == "i" or most > 1:
        raise UnreadableImage(
            f"its {values.dtype} values reach from {least:g} to {most:g}: set data.scale to the value that becomes 1, "
            "such as data.scale=10000"
        )
    return values.astype(np.float32)


def decode_lzw(encoded: bytes, /, *, out: int | None = None) -> bytes:
    r"""Decode a strip or tile that is compressed with LZW, as section 13 of TIFF 6.0 defines it.

    >>> decode_lzw(bytes.fromhex("8001e050204c04"))
    b'\x07\x07\x07\x07\x07\t'

    Args:
        encoded: Codes of 9 to 12 bits, the highest bit first.
        out: Bytes that it holds; what comes behind them is not decoded.

    Returns:
        The bytes.

    Raises:
        ValueError: A code stands for nothing.
    """
    single = [bytes((value,)) for value in range(256)] + [b"", b""]
    table, width, previous = list(single), 9, b""
    pieces, length, held, bits = [], 0, 0, 0
    for byte in encoded:
        held, bits = held << 8 | byte, bits + 8
        if bits < width:
            continue
        bits -= width
        code, held = held >> bits, held & ((1 << bits) - 1)
        if code == CLEAR:
            table, width, previous = list(single), 9, b""
            continue
        if code == END or (out is not None and length >= out):
            break
        if code > len(table) - (not previous):
            raise ValueError(f"LZW code {code} stands for nothing")
        piece = table[code] if code < len(table) else previous + previous[:1]
        if previous:
            table.append(previous + piece[:1])
            width = min(12, (len(table) + 1).bit_length())  # one code early, as writers of TIFF do
        pieces.append(piece)
        length, previous = length + len(piece), piece
    return b"".join(pieces)


def _read_npy(path: Path, channels: int, check_size: Callable[[int, int], None], scale: float | None) -> Tensor:
    try:
        values = np.lib.format.open_memmap(path, mode="r", max_header_size=LARGEST_HEADER)
    except Exception as error:  # a damaged header raises errors of many kinds
        if "Python objects" in str(error):
            raise UnreadableImage("it holds Python objects, which could run code") from error
        raise UnreadableImage(f"the file is damaged ({error})".split("\n")[0]) from error
    axis = _check_shape(values.shape, channels, check_size)
    return _arrange(values, axis, scale)


def _read_tiff(path: Path, channels: int, check_size: Callable[[int, int], None], scale: float | None) -> Tensor:
    import tifffile
    from tifffile import tifffile as implementation

    codecs = vars(implementation)["imagecodecs"]
    if not hasattr(codecs, "lzw_decode"):  # which tifffile asks for, and has where another package is installed
        codecs.lzw_decode = decode_lzw
    codec = ""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file is said once, as its reason
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            codec = getattr(series.keyframe.compression, "name", "an unknown method")
            axis = _check_shape(series.shape, channels, check_size)
            values = series.asarray()
    except UnreadableImage:
        raise
    except Exception as error:  # as with Pillow, a damaged file raises errors of many kinds
        if "imagecodecs" in str(error) or isinstance(error, ImportError):
            raise UnreadableImage(
                f"bands compressed with {codec} are not read: save them uncompressed, with Deflate or LZW, or as .npy"
            ) from error
        raise UnreadableImage(f"the file is damaged ({type(error).__name__}: {error})".split("\n")[0]) from error
    return _arrange(values, axis, scale)


def _check_shape(shape: tuple[int, ...], channels: int, check_size: Callable[[int, int], None]) -> int:
    """The axis of the channels; UnreadableImage where the shape is not that of such a picture or too large."""
    axis = find_channel_axis(shape, channels)
    height, width = [side for position, side in enumerate(shape) if position != axis or axis < 0]
    check_size(width, height)
    return axis


def _arrange(values: NDArray[Any], axis: int, scale: float | None) -> Tensor:
    planes = values[None] if axis < 0 else np.moveaxis(values, axis, 0)
    return torch.from_numpy(np.array(scale_values(planes, scale), order="C"))
