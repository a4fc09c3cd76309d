"""One file of the corpus and what must come of it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = np.array([[[200, 30, 10], [20, 180, 40]], [[30, 40, 220], [250, 250, 250]]], np.uint8)
UPRIGHT = COLOURS.repeat(24, 0).repeat(20, 1)
"""Red, green, blue, white: no rotation or reflection of it looks the same; 48 pixels high, 40 wide."""


@dataclass(frozen=True)
class Case:
    """`name` is the path below the corpus; `skipped` the words of the reason, None where the image is used.

    `pixels` are what it must look like, with at most `tolerance` levels between; `left_out` is no image to begin with.
    """

    name: str | bytes
    make: Callable[[Path], object]
    skipped: str | None = None
    pixels: np.ndarray | None = None
    tolerance: int = 0
    left_out: bool = False

    @property
    def title(self) -> str:
        """The name in one printable line."""
        text = self.name.decode("utf-8", "backslashreplace") if isinstance(self.name, bytes) else self.name
        return ascii(text)[1:-1] if len(text) <= 44 else text[:20] + "..." + text[-20:]

    @property
    def outcome(self) -> str:
        """The expectation in words."""
        return "left out" if self.left_out else "used" if self.skipped is None else f"skipped: {self.skipped}"


def saved(pixels: np.ndarray = UPRIGHT, mode: str | None = None, kind: str = "PNG", **options: object) -> bytes:
    """An encoded image."""
    memory = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(memory, kind, **options)  # type: ignore[arg-type]
    return memory.getvalue()


def content(data: bytes) -> Callable[[Path], object]:
    """A file with these bytes."""
    return lambda path: path.write_bytes(data)


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    """One chunk of a PNG file; `crc` in place of the right checksum."""
    check = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def png_file(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """A PNG written by hand: what Pillow cannot write, or would not."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def grey(values: np.ndarray) -> np.ndarray:
    """[height, width] as [height, width, 3]."""
    return values.astype(np.uint8)[:, :, None].repeat(3, 2)
