"""Lines of type: the font, measured widths, line breaks, and numbers in words."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

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
    """Format a probability with two digits, or with one significant digit where those would be 0.00.

    Args:
        probability: In [0, 1].

    Returns:
        Such as 0.87 or 0.001.
    """
    return f"{probability:.2f}" if probability >= 0.005 else f"{probability:.1g}"


MINUS = "\N{MINUS SIGN}"


def format_number(value: float) -> str:
    """Format a number with three significant digits and a true minus sign.

    Args:
        value: Any number.

    Returns:
        Such as −0.125.
    """
    return f"{value:.3g}".replace("-", MINUS)
