"""A page laid out in pixels: measured text, pictures whose values are never interpolated."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.ft2font import FT2Font, LoadFlags
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from seewhy.colours import FRAME, GROUND, INK, MUTED
from seewhy.words import FAMILY, Words, file_of

RESOLUTION = 200
"""Pixels an inch of a panel, at which a pixel of the image covers a whole number of pixels of the figure."""
LEADING = 1.4
"""Height of a line of text in multiples of its size."""


@cache
def _font(bold: bool) -> FT2Font:
    return get_font(file_of(bold))


@cache
def _advance(character: str, bold: bool) -> float:
    font = _font(bold)
    font.set_size(10, 72)
    return font.load_char(ord(character), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 655360


@cache
def _known() -> frozenset[int]:
    return frozenset(_font(False).get_charmap()) & frozenset(_font(True).get_charmap())


def literal(text: str) -> str:
    """The text on one line: any white space is one space, a character that the font lacks is a replacement mark."""
    line = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(c if ord(c) in _known() and c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def width_of(text: str, size: float, bold: bool = False) -> float:
    """Width of a literal text in points; 3 % over the sum of the advances, for hinting."""
    return 1.03 * size * sum(_advance(character, bold) for character in text)


def _fitting(text: str, width: float, size: float, bold: bool) -> int:
    """How many characters from the start of a literal text fit in `width` points."""
    return int(sum(np.cumsum([width_of(character, size, bold) for character in text]) <= width))


def shorten(text: str, width: float, size: float, tail: str = "", bold: bool = False) -> str:
    """`text` and `tail` on one line of at most `width` points: an ellipsis takes the place of the end of `text`."""
    text = literal(text)
    if width_of(text + tail, size, bold) <= width:
        return text + tail
    return text[: _fitting(text, width - width_of("…" + tail, size, bold), size, bold)].rstrip() + "…" + tail


def wrap(text: str, width: float, size: float, bold: bool = False, most: int = 8) -> list[str]:
    """The text in lines of at most `width` points, broken between words or, in a longer word, anywhere."""
    lines: list[str] = []
    rest = literal(text)
    while width_of(rest, size, bold) > width and len(lines) < most - 1:
        fitting = max(1, _fitting(rest, width, size, bold))
        space = rest.rfind(" ", 1, fitting + 1)
        cut = space if space > 0 else fitting
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*lines, shorten(rest, width, size, bold=bold)] if rest else lines


def joined(parts: Iterable[str], width: float, size: float) -> list[str]:
    """The parts, as many on one line as fit in `width` points."""
    lines: list[str] = []
    for part in map(literal, parts):
        longer = f"{lines[-1]}  ·  {part}" if lines else part
        lines[-1:] = [longer] if width_of(longer, size) <= width else [*lines[-1:], part]
    return lines


class Picture(Artist):
    """RGB [rows, columns, 3] in [0, 1] in a rectangle (x, y, width, height): each value a block, never interpolated.

    The values are picked here because matplotlib's own resampling takes most of the time of a figure.
    """

    axes: Axes

    def __init__(self, axes: Axes, colours: NDArray[np.floating], place: tuple[float, float, float, float]) -> None:
        super().__init__()
        self.place, self.zorder = place, 2
        painted = np.rint(np.asarray(colours) * 255).astype(np.uint8)
        self.values = np.pad(painted, ((0, 0), (0, 0), (0, 1)), constant_values=255)
        axes.add_artist(self)

    def draw(self, renderer: RendererBase) -> None:
        """Paint the blocks, the first row at the top."""
        x, y, width, height = self.place
        (left, bottom), (right, top) = (
            self.axes.transData.transform([(x, y + height), (x + width, y)]).round().astype(int)
        )
        rows = (np.arange(top - bottom - 1, -1, -1) + 0.5) / (top - bottom) * self.values.shape[0]
        columns = (np.arange(right - left) + 0.5) / (right - left) * self.values.shape[1]
        blocks = self.values[rows.astype(int)[:, None], columns.astype(int)]
        renderer.draw_image(renderer.new_gc(), left, bottom, blocks)


class Page:
    """A white figure measured in pixels from its top left corner; `finish` gives it its height."""

    def __init__(self, width: int, resolution: int = RESOLUTION) -> None:
        self.width, self.resolution = width, resolution
        self.figure = Figure(dpi=resolution, facecolor="white")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()

    def pixels(self, points: float) -> float:
        """Points of type in pixels of the page."""
        return points * self.resolution / 72

    def points(self, pixels: float) -> float:
        """Pixels of the page in points of type."""
        return pixels * 72 / self.resolution

    def text(self, x: float, y: float, text: str, size: float, colour: str = INK, **style: Any) -> None:
        """One literal line whose left end (`ha` moves it) stands on the baseline y."""
        font = FontProperties(family=FAMILY, weight=style.pop("weight", "normal"), size=size)
        options = {"va": "baseline", "color": colour, "parse_math": False, "usetex": False, **style}
        words = Words(x, y, text, fontproperties=font, transform=self.axes.transData, **options)
        self.axes.add_artist(words)

    def lines(self, x: float, y: float, lines: Iterable[str], size: float, colour: str = INK, **style: Any) -> float:
        """Lines of text from y downwards; the y below them."""
        step = self.pixels(LEADING * size)
        for line in lines:
            self.text(x, y + 0.75 * step, line, size, colour, **style)
            y += step
        return y

    def picture(self, x: float, y: float, width: float, height: float, colours: NDArray[np.floating]) -> None:
        """An RGB array [rows, columns, 3] in [0, 1] in that rectangle, pixel by pixel, in a hairline frame."""
        self.box(x - 1, y - 1, width + 2, height + 2, FRAME)
        Picture(self.axes, colours, (x, y, width, height))

    def box(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """A rectangle without an edge."""
        self.axes.add_artist(Rectangle((x, y), width, height, facecolor=fill, edgecolor="none", linewidth=0))

    def blank(self, x: float, y: float, width: float, height: float, message: str, size: float) -> None:
        """A grey rectangle with a message in the place of a picture."""
        self.box(x - 1, y - 1, width + 2, height + 2, FRAME)
        self.box(x, y, width, height, GROUND)
        step = self.pixels(LEADING * size)
        lines = wrap(message, self.points(width) * 0.9, size, most=max(1, int(height / step)))
        self.lines(x + width / 2, y + (height - step * len(lines)) / 2, lines, size, MUTED, ha="center")

    def finish(self, height: float) -> Figure:
        """The figure, `height` pixels high."""
        rows = round(height)
        self.figure.set_size_inches(self.width / self.resolution, rows / self.resolution)
        self.axes.set(xlim=(0, self.width), ylim=(rows, 0))
        return self.figure
