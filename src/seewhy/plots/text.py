"""Lines of type: the font, measured widths, line breaks, numbers in words, and labels that do not overlap."""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

FAMILY = "DejaVu Sans"
"""The font of every figure; its files come with matplotlib."""
RESOLUTION = 200
"""Pixels an inch of a panel, at which a pixel of the image covers a whole number of pixels of the figure."""
RESOLUTIONS = (100, RESOLUTION)
"""Those at which lines of type are painted, and thus measured."""
LEADING = 1.4
"""Height of a line of text in multiples of its size."""


def find_font_file(bold: bool) -> Path:
    """Return the path of the font file that matplotlib ships."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path(), "fonts", "ttf", name)


@lru_cache(64)
def load_font(pixels: float, bold: bool) -> ImageFont.FreeTypeFont:
    """Load the font for Pillow.

    It is set with Pillow's basic layout: the other one needs a library of the system, and where that is missing the same
    figure would have other pixels.

    Args:
        pixels: Size in pixels.
        bold: Whether the type is bold.

    Returns:
        The font.
    """
    return ImageFont.truetype(find_font_file(bold), pixels, layout_engine=ImageFont.Layout.BASIC)


@cache
def _list_characters() -> frozenset[int]:
    """The code points that both weights of the font can draw."""
    maps = [FT2Font(str(find_font_file(bold))).get_charmap() for bold in (False, True)]
    return frozenset(maps[0]) & frozenset(maps[1])


@lru_cache(4096)
def clean_text(text: str) -> str:
    """Put the text on one line: white space becomes one space, a character that the font lacks a replacement mark."""
    line = " ".join(unicodedata.normalize("NFC", text).split())
    drawable = _list_characters()
    return "".join(c if ord(c) in drawable and c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


@lru_cache(4096)
def measure_width(text: str, size: float, bold: bool = False) -> float:
    """Measure a line of type.

    Hinting moves glyphs to whole pixels, so a line is wider at some resolutions: this is the widest of `RESOLUTIONS`.

    Args:
        text: A line as `clean_text` returns it.
        size: Size of the type in points.
        bold: Whether the type is bold.

    Returns:
        The width in points.
    """
    return max(load_font(size * dpi / 72, bold).getlength(text) * 72 / dpi for dpi in RESOLUTIONS)


def _count_fitting(text: str, width: float, size: float, bold: bool) -> int:
    """How many characters from the start of a clean text fit in `width` points."""
    return bisect_right(range(1, len(text) + 1), width, key=lambda end: measure_width(text[:end], size, bold))


def shorten(text: str, width: float, size: float, tail: str = "", bold: bool = False) -> str:
    """Put `text` and `tail` on one line; where they are too long an ellipsis replaces the end of `text`.

    Args:
        text: Any text.
        width: Largest width in points.
        size: Size of the type in points.
        tail: A clean text that is never cut.
        bold: Whether the type is bold.

    Returns:
        A line of at most `width` points, unless `tail` alone is wider.
    """
    text = clean_text(text)
    if measure_width(text + tail, size, bold) <= width:
        return text + tail
    room = width - measure_width("…" + tail, size, bold)
    return text[: _count_fitting(text, room, size, bold)].rstrip() + "…" + tail


def wrap(text: str, width: float, size: float, bold: bool = False, most: int = 8) -> list[str]:
    """Break a text between words or, in a word that is longer than a line, anywhere.

    Args:
        text: Any text.
        width: Largest width of a line in points.
        size: Size of the type in points.
        bold: Whether the type is bold.
        most: Largest number of lines; the last one is shortened.

    Returns:
        The lines; none for an empty text.
    """
    lines: list[str] = []
    rest = clean_text(text)
    while measure_width(rest, size, bold) > width and len(lines) < most - 1:
        fitting = max(1, _count_fitting(rest, width, size, bold))
        space = rest.rfind(" ", 1, fitting + 1)
        cut = space if space > 0 else fitting
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*lines, shorten(rest, width, size, bold=bold)] if rest else lines


def join_lines(texts: Iterable[str], width: float, size: float) -> list[str]:
    """Join short texts with dots, as many on a line as fit.

    Args:
        texts: Any texts.
        width: Width of a line in points; a text that is wider alone has a line of its own.
        size: Size of the type in points.

    Returns:
        The lines.
    """
    lines: list[str] = []
    for text in map(clean_text, texts):
        longer = f"{lines[-1]}  ·  {text}" if lines else text
        lines[-1:] = [longer] if measure_width(longer, size) <= width else [*lines[-1:], text]
    return lines


def format_probability(probability: float) -> str:
    """Format a probability, or a mean of shares, with two digits; rounding makes nothing certain or impossible.

    Args:
        probability: In [0, 1]; NaN where outputs have none.

    Returns:
        Such as 0.87, `> 0.99` for 0.997, or 0.001 where two digits would be 0.00; a dash for NaN.
    """
    if probability != probability:
        return "\N{EN DASH}"
    if 0.995 <= probability < 1:
        return "> 0.99"
    return f"{probability:.1g}" if 0 < probability < 0.005 else f"{probability:.2f}"


MINUS = "\N{MINUS SIGN}"


def format_number(value: float) -> str:
    """Format a number with three significant digits and a true minus sign.

    Args:
        value: Any number.

    Returns:
        Such as −0.125.
    """
    return f"{value:.3g}".replace("-", MINUS)


DIRECTIONS = 16
REACHES = (8, 14, 22, 34, 50, 70, 95, 125, 160)
"""Distances in pixels at which a label is tried, nearest first."""
CROWD = 150
"""Points within this distance in pixels crowd each other."""


class Rectangle(NamedTuple):
    """A rectangle in pixels, y downwards.

    Attributes:
        left: Smallest x.
        top: Smallest y.
        right: Largest x.
        bottom: Largest y.
    """

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Rectangle) -> float:
        """Compute the shared area.

        Args:
            other: Another rectangle.

        Returns:
            Square pixels; 0 where they do not overlap.
        """
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.bottom - self.top)


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: Rectangle,
    avoid: Sequence[Rectangle] = (),
    marker: float = 12,
) -> list[Rectangle]:
    """Place a label beside each point: inside the bounds, off other labels and all marks, as near as possible.

    Labels that have the least room are placed first; where nothing is free the least overlap decides.

    Args:
        points: (x, y) of each point in pixels.
        sizes: (width, height) of each label in pixels.
        bounds: Where labels may lie.
        avoid: What is better left free.
        marker: Half the side of the mark of a point in pixels.

    Returns:
        The rectangle of each label.
    """
    marks = [Rectangle(x - marker, y - marker, x + marker, y + marker) for x, y in points]
    spared = list(avoid)
    neighbours = [sum(math.dist(point, other) < CROWD for other in points) for point in points]
    placed: dict[int, Rectangle] = {}
    for number in sorted(range(len(points)), key=lambda number: (-neighbours[number], points[number], number)):
        taken = [*marks, *placed.values()]
        best: tuple[tuple[float, float, float], Rectangle] | None = None
        for box in _list_candidates(points[number], sizes[number], marker):
            cost = _rate(box, build_leader(box, points[number]), bounds, taken, spared)
            if best is None or cost < best[0]:
                best = cost, box
            if not any(cost):
                break
        assert best is not None
        placed[number] = best[1]
        spared += build_leader(best[1], points[number])
    return [placed[number] for number in range(len(points))]


def _list_candidates(point: tuple[float, float], size: tuple[float, float], marker: float) -> list[Rectangle]:
    """Rectangles around a point, nearest first, those on its right before the others."""
    (x, y), (width, height) = point, size
    boxes = []
    turns = sorted(range(DIRECTIONS), key=lambda turn: (min(turn, DIRECTIONS - turn), turn))
    for reach in REACHES:
        for turn in turns:
            across, down = math.cos(2 * math.pi * turn / DIRECTIONS), math.sin(2 * math.pi * turn / DIRECTIONS)
            left = x + across * (marker + reach + width / 2) - width / 2
            top = y + down * (marker + reach + height / 2) - height / 2
            boxes.append(Rectangle(left, top, left + width, top + height))
    return boxes


def build_leader(box: Rectangle, point: tuple[float, float], gap: float = 34) -> list[Rectangle]:
    """Cover the line that ties a label to its point with small rectangles.

    Args:
        box: Of the label.
        point: (x, y) in pixels.
        gap: Up to this distance in pixels there is no line.

    Returns:
        The rectangles, which are none where there is no line.
    """
    end = (min(max(point[0], box.left), box.right), min(max(point[1], box.top), box.bottom))
    length = math.dist(end, point)
    if length <= gap:
        return []
    shares = [0.5 + 0.1 * step for step in range(-2, 5)]
    spots = [(point[0] + share * (end[0] - point[0]), point[1] + share * (end[1] - point[1])) for share in shares]
    return [Rectangle(x - 2, y - 2, x + 2, y + 2) for x, y in spots]


def _rate(
    box: Rectangle, tie: Sequence[Rectangle], bounds: Rectangle, taken: Sequence[Rectangle], avoid: Sequence[Rectangle]
) -> tuple[float, float, float]:
    """(forbidden overlap, overlap of the line to the point with others, overlap with what is better left free)."""
    outside = box.area - box.overlap(bounds)
    crossed = sum(spot.overlap(other) for spot in tie for other in taken)
    free = sum(map(box.overlap, avoid))
    return round(outside + sum(map(box.overlap, taken)), 6), round(crossed, 6), round(free, 6)
