"""A page that is laid out: boxes, pictures and words at their places, and the pixels that they give.

A line of type and its pixels, which are kept: the same words are painted on figure after figure.
A page laid out in pixels: measured text, boxes, pictures.
A figure as the bytes of a PNG file, and as a picture.
"""

from __future__ import annotations

import io
import re
import struct
import unicodedata
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from math import floor
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from isal import isal_zlib
from matplotlib.backends.backend_agg import get_hinting_flag
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font, LoadFlags
from numpy.typing import NDArray
from PIL import Image

from seewhy.plots.colormaps import FRAME, GROUND, INK, MUTED, Colours, parse_colour, to_uint8

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAMILY = "DejaVu Sans"
"""The font of every figure; it comes with matplotlib."""
PIECE = re.compile("[0-9]|[^0-9 ]+| ")
SHIFT = {"left": 0.0, "center": 0.5, "right": 1.0}


class Words(NamedTuple):
    """A literal line at a place of the page, in points of type; `ha` says which part of it stands at x.

    It stands on the baseline y or, where it reads `upwards`, to the left of x with its middle at y.
    """

    x: float
    y: float
    text: str
    size: float
    colour: str
    ha: str = "left"
    bold: bool = False
    upwards: bool = False

    def placed(self, resolution: float, zoom: float = 1.0) -> tuple[int, int, NDArray[np.uint8]]:
        """(row, column, coverage from 0 to 255) of its pixels at a resolution, the page enlarged by `zoom`."""
        left, below, mask = _line(self.text, self.size * resolution / 72, self.bold)
        x, y = self.x * zoom, self.y * zoom
        if self.upwards:
            right = round(x - _descent(self.size * resolution / 72, self.bold)) - below
            return round(y - mask.shape[1] / 2), right - mask.shape[0], np.rot90(mask)
        return round(y) - below - mask.shape[0], round(x - SHIFT[self.ha] * mask.shape[1]) + left, mask

    def paint(self, page: NDArray[np.uint8], resolution: float, zoom: float) -> None:
        """Lay the words over the page in their colour; what would lie outside is cut off."""
        row, column, mask = self.placed(resolution, zoom)
        top, left = max(row, 0), max(column, 0)
        ground = page[top : max(row + mask.shape[0], 0), left : max(column + mask.shape[1], 0)]
        inside = mask[top - row :, left - column :][: ground.shape[0], : ground.shape[1]]
        cover = inside.repeat(3, axis=1).reshape(ground.shape).astype(np.uint16)
        ground[...] = ((255 - cover) * ground + cover * parse_colour(self.colour) + 127) // 255


def find_font_file(bold: bool) -> str:
    """The file of the font."""
    return str(findfont(FontProperties(family=FAMILY, weight="bold" if bold else "normal")))


class Ink(NamedTuple):
    """The pixels of type whose start on the baseline is the origin."""

    left: int
    below: int
    """Of the lower edge, upwards."""
    mask: NDArray[np.uint8]
    """Coverage, 255 where there is nothing but ink."""


@lru_cache(1024)
def _line(text: str, pixels: float, bold: bool) -> Ink:
    """A line put together from its words and digits, each at a whole pixel.

    FreeType needs a millisecond for a line. Most words of a figure come again in the next one, and its numbers do not.
    """
    start, inks = 0.0, list[Ink]()
    for piece in PIECE.findall(text):
        ink, advance = _piece(piece, pixels, bold)
        if piece != " ":
            inks.append(Ink(round(start) + ink.left, ink.below, ink.mask))
        start += advance
    if not inks:
        return Ink(0, 0, np.zeros((1, 1), np.uint8))
    left, below = min(ink.left for ink in inks), min(ink.below for ink in inks)
    right = max(ink.left + ink.mask.shape[1] for ink in inks)
    top = max(ink.below + ink.mask.shape[0] for ink in inks)
    mask = np.zeros((top - below, right - left), np.uint8)
    for ink in inks:
        row, column = top - ink.below - ink.mask.shape[0], ink.left - left
        part = mask[row : row + ink.mask.shape[0], column : column + ink.mask.shape[1]]
        np.maximum(part, ink.mask, out=part)
    return Ink(left, below, mask)


@lru_cache(4096)
def _piece(text: str, pixels: float, bold: bool) -> tuple[Ink, float]:
    """A word, a digit or a space, and how many pixels after its start the next one starts."""
    font = get_font(_file(bold))
    font.set_size(pixels, 72)
    starts = font.set_text(text + " ", 0.0, flags=get_hinting_flag())  # type: ignore[no-untyped-call]
    font.draw_glyphs_to_bitmap(antialiased=True)
    left, below = font.get_bitmap_offset()[0], -font.get_descent()
    return Ink(round(left / 64), round(below / 64) - 1, np.array(font.get_image())), float(starts[-1][0]) / 64


@cache
def _descent(pixels: float, bold: bool) -> float:
    """How far letters such as p reach below the baseline."""
    font = get_font(_file(bold))
    font.set_size(pixels, 72)
    font.set_text("lp", 0.0, flags=get_hinting_flag())  # type: ignore[no-untyped-call]
    return float(font.get_descent()) / 64


_file = cache(find_font_file)


class Box(NamedTuple):
    """A rectangle without an edge, measured in pixels of the page from its top left corner."""

    x: float
    y: float
    width: float
    height: float
    fill: str

    def inside(self, zoom: float) -> tuple[slice, slice]:
        """Its rows and columns, the page enlarged by `zoom`: an edge in the middle of a pixel goes down."""
        top, bottom = (max(floor(edge * zoom + 0.5), 0) for edge in (self.y, self.y + self.height))
        left, right = (max(floor(edge * zoom + 0.5), 0) for edge in (self.x, self.x + self.width))
        return slice(top, bottom), slice(left, right)

    def paint(self, page: NDArray[np.uint8], resolution: float, zoom: float) -> None:
        """Fill it, row by row."""
        part = page[self.inside(zoom)]
        part[...] = np.broadcast_to(parse_colour(self.fill), part.shape[1:]).copy()


class Picture(NamedTuple):
    """RGB [rows, columns, 3] in the place of a box: each value a block, never interpolated."""

    box: Box
    values: NDArray[np.uint8]

    def paint(self, page: NDArray[np.uint8], resolution: float, zoom: float) -> None:
        """Paint the blocks."""
        part = page[self.box.inside(zoom)]
        rows, columns = (_taken(*lengths) for lengths in zip(self.values.shape, part.shape[:2], strict=False))
        part[...] = self.values.take(columns, axis=1).take(rows, axis=0)


def _taken(known: int, wanted: int) -> NDArray[np.intp]:
    """Which of `known` values in a row stands at each of `wanted` places."""
    places: NDArray[np.intp] = ((np.arange(wanted) + 0.5) / wanted * known).astype(np.intp)
    return places


Part: TypeAlias = Box | Picture | Words


@dataclass(frozen=True)
class Drawing:
    """A white page of `width` x `height` pixels at `resolution` pixels an inch; later parts cover earlier ones."""

    width: int
    height: int
    resolution: float
    parts: tuple[Part, ...]

    @property
    def words(self) -> list[Words]:
        """All lines of type."""
        return [part for part in self.parts if isinstance(part, Words)]

    def painted(self, resolution: float | None = None) -> NDArray[np.uint8]:
        """RGB [rows, columns, 3], at the drawing's own resolution or at another one."""
        resolution = resolution or self.resolution
        zoom = resolution / self.resolution
        page = np.full((round(self.height * zoom), round(self.width * zoom), 3), 255, np.uint8)
        for part in self.parts:
            part.paint(page, resolution, zoom)
        return page


RESOLUTION = 200
"""Pixels an inch of a panel, at which a pixel of the image covers a whole number of pixels of the figure."""
LEADING = 1.4
"""Height of a line of text in multiples of its size."""


@cache
def _font(bold: bool) -> FT2Font:
    return get_font(find_font_file(bold))


@cache
def _advance(character: str, bold: bool) -> float:
    font = _font(bold)
    font.set_size(10, 72)
    return font.load_char(ord(character), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 655360


@cache
def _known() -> frozenset[int]:
    return frozenset(_font(False).get_charmap()) & frozenset(_font(True).get_charmap())


@lru_cache(4096)
def clean_text(text: str) -> str:
    """The text on one line: any white space is one space, a character that the font lacks is a replacement mark."""
    line = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(c if ord(c) in _known() and c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


@lru_cache(4096)
def measure_width(text: str, size: float, bold: bool = False) -> float:
    """Width of a literal text in points; 3 % over the sum of the advances, for hinting."""
    return 1.03 * size * sum(_advance(character, bold) for character in text)


def _fitting(text: str, width: float, size: float, bold: bool) -> int:
    """How many characters from the start of a literal text fit in `width` points."""
    return int(sum(np.cumsum([measure_width(character, size, bold) for character in text]) <= width))


def shorten(text: str, width: float, size: float, tail: str = "", bold: bool = False) -> str:
    """`text` and `tail` on one line of at most `width` points: an ellipsis takes the place of the end of `text`."""
    text = clean_text(text)
    if measure_width(text + tail, size, bold) <= width:
        return text + tail
    return text[: _fitting(text, width - measure_width("…" + tail, size, bold), size, bold)].rstrip() + "…" + tail


def wrap(text: str, width: float, size: float, bold: bool = False, most: int = 8) -> list[str]:
    """The text in lines of at most `width` points, broken between words or, in a longer word, anywhere."""
    lines: list[str] = []
    rest = clean_text(text)
    while measure_width(rest, size, bold) > width and len(lines) < most - 1:
        fitting = max(1, _fitting(rest, width, size, bold))
        space = rest.rfind(" ", 1, fitting + 1)
        cut = space if space > 0 else fitting
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*lines, shorten(rest, width, size, bold=bold)] if rest else lines


def join_lines(parts: Iterable[str], width: float, size: float) -> list[str]:
    """The parts, as many on one line as fit in `width` points."""
    lines: list[str] = []
    for part in map(clean_text, parts):
        longer = f"{lines[-1]}  ·  {part}" if lines else part
        lines[-1:] = [longer] if measure_width(longer, size) <= width else [*lines[-1:], part]
    return lines


class Layout:
    """Boxes and lines of type at places measured in pixels from the top left corner of a page."""

    def __init__(self, width: int, resolution: int = RESOLUTION) -> None:
        self.width, self.resolution = width, resolution
        self.parts: list[Part] = []

    def pixels(self, points: float) -> float:
        """Points of type in pixels of the page."""
        return points * self.resolution / 72

    def points(self, pixels: float) -> float:
        """Pixels of the page in points of type."""
        return pixels * 72 / self.resolution

    def text(
        self, x: float, y: float, text: str, size: float, colour: str = INK, ha: str = "left", weight: str = "normal"
    ) -> None:
        """One literal line whose left end (`ha` moves it) stands on the baseline y."""
        self.parts.append(Words(x, y, text, size, colour, ha, weight == "bold"))

    def text_upwards(self, x: float, y: float, text: str, size: float, colour: str = INK) -> None:
        """One literal line that reads upwards, left of x, with its middle at y."""
        self.parts.append(Words(x, y, text, size, colour, upwards=True))

    def lines(
        self,
        x: float,
        y: float,
        lines: Iterable[str],
        size: float,
        colour: str = INK,
        ha: str = "left",
        weight: str = "normal",
    ) -> float:
        """Lines of text from y downwards; the y below them."""
        step = self.pixels(LEADING * size)
        for line in lines:
            self.text(x, y + 0.75 * step, line, size, colour, ha, weight)
            y += step
        return y

    def box(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """A rectangle without an edge."""
        self.parts.append(Box(x, y, width, height, fill))


class Page(Layout):
    """A white page with pictures; `finish` gives it its height."""

    def picture(self, x: float, y: float, width: float, height: float, colours: Colours) -> None:
        """RGB [rows, columns, 3], in [0, 1] or in 8 bits, in that rectangle, pixel by pixel, in a hairline frame."""
        self.box(x - 1, y - 1, width + 2, height + 2, FRAME)
        self.parts.append(Picture(Box(x, y, width, height, FRAME), to_uint8(colours)))

    def blank(self, x: float, y: float, width: float, height: float, message: str, size: float) -> None:
        """A grey rectangle with a message in the place of a picture."""
        self.box(x - 1, y - 1, width + 2, height + 2, FRAME)
        self.box(x, y, width, height, GROUND)
        step = self.pixels(LEADING * size)
        lines = wrap(message, self.points(width) * 0.9, size, most=max(1, int(height / step)))
        self.lines(x + width / 2, y + (height - step * len(lines)) / 2, lines, size, MUTED, ha="center")

    def finish(self, height: float) -> Drawing:
        """The page, `height` pixels high."""
        return Drawing(self.width, round(height), self.resolution, tuple(self.parts))


Drawn: TypeAlias = "Drawing | Figure"
"""What becomes a picture: a page of our own, or a chart of matplotlib."""

LEVEL = 2
"""Of ISA-L, whose own order of levels this is: level 3 takes twice as long for no smaller a figure."""
SUB = 1
"""The filter that writes a value as its difference from that of the pixel on the left."""


def encode_figure(figure: Drawn, dpi: float | None = None) -> bytes:
    """The figure as PNG bytes, the same for the same figure; `dpi` is the figure's own unless given."""
    if isinstance(figure, Drawing):
        return encode_png(figure.painted(dpi), dpi or figure.resolution)
    return encode_png(_painted(figure, dpi or figure.dpi), dpi or figure.dpi)


def open_figure(figure: Drawn) -> Image.Image:
    """The figure as a picture that notebooks show and that can be saved in any format."""
    return Image.open(io.BytesIO(encode_figure(figure)))


def encode_png(pixels: NDArray[np.uint8], dpi: float) -> bytes:
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
