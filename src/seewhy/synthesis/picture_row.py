"""Titled pictures side by side on a page."""

from __future__ import annotations

from collections.abc import Sequence

from seewhy.page import LEADING, Page, wrap
from seewhy.views import Cell

MARGIN, GAP = 44, 36


def enlarged(size: int, wish: int) -> int:
    """The whole multiple of `size` pixels that comes nearest to `wish`, at least `size`: no pixel is left out."""
    return max(1, round(wish / size)) * size


def page_of(columns: int, width: int, least: int = 900) -> Page:
    """A page as wide as that many pictures, but wide enough for its words."""
    return Page(max(least, 2 * MARGIN + columns * (width + GAP) - GAP))


def picture_row(page: Page, y: float, cells: Sequence[Cell], side: tuple[int, int], size: float) -> float:
    """Draw cells of `side` (height, width) page pixels from y downwards, titles of `size` points; the y below them."""
    height, width = side
    room = page.points(width)
    titles = [[(line, ink) for text, ink in cell.titles for line in wrap(text, room, size)] for cell in cells]
    step = page.pixels(LEADING * size)
    top = round(y + step * max(map(len, titles), default=0) + step / 3)
    for number, (cell, lines) in enumerate(zip(cells, titles, strict=True)):
        x, start = MARGIN + number * (width + GAP), top - step / 3 - step * len(lines)
        for line, ink in lines:
            start = page.lines(x, start, [line], size, ink)
        if cell.colours is None:
            page.blank(x, top, width, height, cell.message, size)
        else:
            page.picture(x, top, width, height, cell.colours)
    return top + height
