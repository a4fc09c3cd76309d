"""A line of type and its pixels, which are kept: the same words are painted on figure after figure."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import get_hinting_flag
from matplotlib.font_manager import FontProperties, findfont, get_font
from numpy.typing import NDArray

from seewhy.colours import rgb

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
        ground[...] = ((255 - cover) * ground + cover * rgb(self.colour) + 127) // 255


def file_of(bold: bool) -> str:
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


_file = cache(file_of)
