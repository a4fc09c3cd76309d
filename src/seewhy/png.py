"""A figure as the bytes of a PNG file, and as a picture."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image

from seewhy.drawing import Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawn: TypeAlias = "Drawing | Figure"
"""What becomes a picture: a page of our own, or a chart of matplotlib."""

LEVEL = 2
"""Of ISA-L, whose own order of levels this is: level 3 takes twice as long for no smaller a figure."""
SUB = 1
"""The filter that writes a value as its difference from that of the pixel on the left."""


def png(figure: Drawn, dpi: float | None = None) -> bytes:
    """The figure as PNG bytes, the same for the same figure; `dpi` is the figure's own unless given."""
    if isinstance(figure, Drawing):
        return encoded(figure.painted(dpi), dpi or figure.resolution)
    return encoded(_painted(figure, dpi or figure.dpi), dpi or figure.dpi)


def picture(figure: Drawn) -> Image.Image:
    """The figure as a picture that notebooks show and that can be saved in any format."""
    return Image.open(io.BytesIO(png(figure)))


def encoded(pixels: NDArray[np.uint8], dpi: float) -> bytes:
    """RGB [rows, columns, 3] as PNG bytes (ISO/IEC 15948) that say how large a pixel is.

    Compression takes most of the time of a figure: ISA-L needs a fifth of zlib's. It finds no repetition below four bytes,
    but with the filter an enlarged pixel repeats zeros; other writers try five filters for each row.
    """
    rows, columns, _ = pixels.shape
    flat = pixels.reshape(rows, -1)
    lines = np.empty((rows, 1 + 3 * columns), np.uint8)
    lines[:, 0] = SUB
    lines[:, 1:4] = flat[:, :3]
    np.subtract(flat[:, 3:], flat[:, :-3], out=lines[:, 4:])
    metre = round(dpi / 0.0254)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)),
        (b"pHYs", struct.pack(">IIB", metre, metre, 1)),
        (b"IDAT", isal_zlib.compress(lines.data, LEVEL)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _painted(figure: Figure, dpi: float) -> NDArray[np.uint8]:
    """The pixels [rows, columns, 3] of a chart."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    own = figure.dpi
    try:
        figure.dpi = dpi
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        return np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    finally:
        figure.dpi = own
