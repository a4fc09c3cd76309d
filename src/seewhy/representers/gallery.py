"""Pictures of training images: those that speak for and against a decision, and those that weigh most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from seewhy import views
from seewhy.colours import INK, MUTED, RIGHT, WRONG
from seewhy.drawing import Drawing
from seewhy.figures import number
from seewhy.page import LEADING, Page, shorten, wrap

SIDE, GAP, MARGIN = 192, 22, 44
TITLE, BODY, SMALL = 11.0, 8.5, 7.0


class Tile(NamedTuple):
    """A training image under its class (in `ink`) and over a note, such as its representer value."""

    image: Tensor
    heading: str
    note: str
    ink: str = INK


def thumbnail(image: Tensor, side: int) -> NDArray[np.float32]:
    """[3, height, width] as RGB of at most `side` pixels: averaged down, or as it is where it is smaller."""
    longest = max(image.shape[1:])
    if longest > side:
        size = [max(1, round(length * side / longest)) for length in image.shape[1:]]
        image = functional.resize(image, size, antialias=True)
    return views.photograph(image)


def _tile(page: Page, x: float, y: float, tile: Tile) -> None:
    room, step = page.points(SIDE), page.pixels(LEADING * SMALL)
    page.lines(x, y, [shorten(tile.heading, room, SMALL)], SMALL, tile.ink)
    page.picture(x, y + step, SIDE, SIDE, thumbnail(tile.image, SIDE))
    page.lines(x, y + step + SIDE + 4, [shorten(tile.note, room, SMALL)], SMALL, MUTED)


def _tile_height(page: Page) -> float:
    return SIDE + 2 * page.pixels(LEADING * SMALL) + 4


def representer_gallery(
    image: Tensor, titles: views.Lines, excitatory: Sequence[Tile], inhibitory: Sequence[Tile], note: str
) -> Drawing:
    """The test image [3, height, width] under `titles`, and a row of tiles for each sign, strongest first."""
    columns = max(len(excitatory), len(inhibitory), 1)
    large = 2 * SIDE
    page = Page(2 * MARGIN + large + GAP + columns * (SIDE + GAP))
    room, y = page.points(page.width - 2 * MARGIN), MARGIN * 0.6
    for position, (text, ink) in enumerate(titles):
        size, weight = (TITLE, "bold") if not position else (BODY, "normal")
        y = page.lines(MARGIN, y, wrap(text, room, size, not position), size, ink, weight=weight)
    y += GAP / 2
    top, step = y, page.pixels(LEADING * BODY)
    rows = (("for the target: excitatory", excitatory, RIGHT), ("against it: inhibitory", inhibitory, WRONG))
    for heading, tiles, ink in rows:
        left = MARGIN + large + GAP
        page.lines(left, y, [heading], BODY, ink, weight="bold")
        for column, tile in enumerate(tiles):
            _tile(page, left + column * (SIDE + GAP), y + step, tile)
        y += step + _tile_height(page) + GAP
    page.picture(MARGIN, top + (y - GAP - top - large) / 2, large, large, thumbnail(image, large))
    y = page.lines(MARGIN, y, wrap(note, room, SMALL), SMALL, MUTED)
    return page.finish(y + MARGIN * 0.6)


def importance_gallery(tiles: Sequence[Tile], title: str, note: str, columns: int = 5) -> Drawing:
    """The tiles in rows, largest first."""
    page = Page(2 * MARGIN + columns * (SIDE + GAP) - GAP)
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(title, room, TITLE, True), TITLE, weight="bold")
    y = page.lines(MARGIN, y, wrap(note, room, BODY), BODY, MUTED) + GAP / 2
    for position, tile in enumerate(tiles):
        row, column = divmod(position, columns)
        _tile(page, MARGIN + column * (SIDE + GAP), y + row * (_tile_height(page) + GAP), tile)
    return page.finish(y + -(-len(tiles) // columns) * (_tile_height(page) + GAP) + MARGIN * 0.4)


def signed(value: float) -> str:
    """Three significant digits with their sign."""
    return ("+" if value > 0 else "") + number(value)
