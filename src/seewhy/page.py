"""A page laid out in pixels: measured text, boxes, pictures."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache

import numpy as np
from matplotlib.font_manager import get_font
from matplotlib.ft2font import FT2Font, LoadFlags

from seewhy.colours import FRAME, GROUND, INK, MUTED, Colours, eight_bit
from seewhy.drawing import Box, Drawing, Part, Picture
from seewhy.words import Words, file_of

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


@lru_cache(4096)
def literal(text: str) -> str:
    """The text on one line: any white space is one space, a character that the font lacks is a replacement mark."""
    line = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(c if ord(c) in _known() and c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


@lru_cache(4096)
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
        self.parts.append(Picture(Box(x, y, width, height, FRAME), eight_bit(colours)))

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
