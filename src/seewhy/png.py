"""A figure as the bytes of a PNG file, and as a picture."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seewhy.drawing import Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawn: TypeAlias = "Drawing | Figure"
"""What becomes a picture: a page of our own, or a chart of matplotlib."""

LEVEL = 2
"""Of zlib: beyond it a figure takes a third longer for 1 % of its size."""


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

    No row is filtered: other writers try five filters for each, which takes longer than all the rest of a figure and
    makes one with large even parts and words larger.
    """
    rows, columns, _ = pixels.shape
    lines = np.zeros((rows, 1 + 3 * columns), np.uint8)
    lines[:, 1:] = pixels.reshape(rows, -1)
    metre = round(dpi / 0.0254)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)),
        (b"pHYs", struct.pack(">IIB", metre, metre, 1)),
        (b"IDAT", zlib.compress(lines.data, LEVEL)),
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
