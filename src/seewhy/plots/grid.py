"""Many explanations at a glance: the sheet of a run, and the images by methods or by networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seewhy.core.errors import UserError
from seewhy.core.types import Explanation
from seewhy.core.words import count_noun
from seewhy.plots import heatmaps
from seewhy.plots.canvas import Drawing, Page
from seewhy.plots.explanation import MARKS, normalise_map
from seewhy.plots.heatmaps import INK, MUTED, RIGHT, WRONG
from seewhy.plots.text import LEADING, format_probability, measure_width, shorten, wrap

RESOLUTION = 100
TITLE, LABEL, NOTE = 10.0, 8.0, 7.5
MARGIN, GAP, LINE_GAP, SEAM = 20, 18, 9, 4
NARROWEST = 480
"""Pixels that the title line needs even where the images are few and small."""
LARGEST = 320
"""Pixels of the longest side of a picture."""
SHEET = 2**22
"""About the most pixels of all pictures of a sheet: it is looked at as a whole, and its file should open at once."""


@dataclass(frozen=True)
class Grid:
    """Where the cells stand, each a pair of pictures.

    Args:
        columns: Cells in a row.
        rows: Rows of cells.
        height: Height of a picture in pixels.
        side: Width of a picture in pixels.
        heading: Height of the lines above the pictures in pixels.
    """

    columns: int
    rows: int
    height: int
    side: int
    heading: float

    @property
    def width(self) -> int:
        """Width of a pair."""
        return 2 * self.side + SEAM


def draw_grid(
    explanations: Sequence[Explanation],
    columns: int | None = None,
    maximum: int = 100,
    total: int | None = None,
    colours: str = "default",
    outlier_percent: float = 2.0,
    strength: float = 0.7,
) -> Drawing:
    """Draw explanations in a grid under one title line.

    Small images are enlarged by a whole number to about 96 pixels, images over 320 pixels are averaged down, and of very
    many images those over some 140 pixels.

    Args:
        explanations: In the order of the sheet.
        columns: Cells in a row; None: what comes closest to a page of 3 : 2.
        maximum: Largest number of explanations that are drawn.
        total: Number of images of the run where `explanations` are only some of them.
        colours: default or classic.
        outlier_percent: Share of the attribution mass that saturates the colours, in [0, 100).
        strength: Opacity of the overlay, in [0, 1].

    Returns:
        The page, at 100 pixels an inch.

    Raises:
        UserError: If there is nothing to draw, or an option is out of range.
    """
    drawn = explanations[: max(0, maximum)]
    if not drawn or (columns is not None and columns < 1):
        raise UserError(f"a sheet needs at least one image and one column, not {len(drawn)} and {columns}")
    style = colours, outlier_percent, strength
    most = math.sqrt(SHEET / 2 / len(drawn))
    tiles = [_draw_tile(explanation, *style, most=most) for explanation in drawn]
    wrong = any(explanation.prediction.correct is False for explanation in drawn)
    grid = _choose_grid([tile.pictures for tile in tiles], columns, lines=3 if wrong else 2)
    page = Page(max(NARROWEST, 2 * MARGIN + grid.columns * (grid.width + GAP) - GAP), RESOLUTION)
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(
        MARGIN, MARGIN / 2, [_write_title(drawn, max(total or 0, len(explanations)), room)], TITLE, weight="bold"
    )
    for number, (explanation, tile) in enumerate(zip(drawn, tiles, strict=True)):
        row, column = divmod(number, grid.columns)
        left = MARGIN + column * (grid.width + GAP)
        top = y + LINE_GAP + row * (grid.heading + grid.height + LINE_GAP)
        _draw_cell(page, left, top, grid, explanation, tile.pictures)
    y += LINE_GAP + grid.rows * (grid.heading + grid.height + LINE_GAP)
    y = page.lines(MARGIN, y, _write_note(drawn, tiles, outlier_percent, room), NOTE, MUTED)
    return page.finish(y + MARGIN / 2)


class Tile(NamedTuple):
    """The original and, where the map can be drawn, the overlay, both at the size of the sheet."""

    pictures: list[NDArray[np.float32]]
    averaged: bool
    """Whether the overlay is that of a fine map, averaged over blocks."""


def _draw_tile(
    explanation: Explanation,
    colours: str,
    outlier_percent: float,
    strength: float,
    least: int = 96,
    most: float = LARGEST,
) -> Tile:
    scale = heatmaps.compute_scale(explanation.attribution, outlier_percent)
    pictures, averaged = [heatmaps.to_rgb(explanation.picture)], False
    if scale:
        normalised, colour_map = normalise_map(explanation, scale, colours)
        smooth = heatmaps.average_fine_map(normalised)
        averaged = smooth is not normalised
        pictures.append(heatmaps.blend_overlay(explanation.picture, smooth, colour_map, strength))
    return Tile([_resize(picture, least, most) for picture in pictures], averaged)


def _resize(picture: NDArray[np.float32], least: int, most: float) -> NDArray[np.float32]:
    longest = max(picture.shape[:2])
    block, factor = max(-(-longest // LARGEST), round(longest / most)), max(1, round(least / longest))
    if block <= 1:
        return picture.repeat(factor, axis=0).repeat(factor, axis=1)
    rows, columns = (max(1, length // block) for length in picture.shape[:2])
    cut = picture[: rows * block, : columns * block]
    averaged: NDArray[np.float32] = cut.reshape(rows, block, columns, block, 3).mean(axis=(1, 3))
    return averaged


def _choose_grid(tiles: list[list[NDArray[np.float32]]], columns: int | None, lines: int) -> Grid:
    """The given number of columns, or the one that comes closest to a page of 3 : 2 with few empty cells."""
    height, side = (max(tile[0].shape[axis] for tile in tiles) for axis in (0, 1))
    heading = lines * LEADING * LABEL * RESOLUTION / 72 + 3
    count = len(tiles)

    def rate(columns: int) -> float:
        rows = -(-count // columns)
        shape = columns * (2 * side + SEAM + GAP) / (rows * (height + heading + LINE_GAP))
        return float(abs(np.log(shape / 1.5)) + (rows * columns - count) / count)

    columns = min(columns, count) if columns else min(range(1, min(count, 12) + 1), key=rate)
    return Grid(columns, -(-count // columns), height, side, heading)


def _draw_cell(
    page: Page, x: float, y: float, grid: Grid, explanation: Explanation, tile: list[NDArray[np.float32]]
) -> None:
    prediction, room = explanation.prediction, page.points(grid.width)
    mark, colour = MARKS[prediction.correct], {True: RIGHT, False: WRONG, None: INK}[prediction.correct]
    has_one = prediction.labels is None and prediction.probability == prediction.probability
    tail = f" {format_probability(prediction.probability)}" if has_one else ""
    tail += "  \N{WARNING SIGN}" if explanation.warnings else ""
    lines = [shorten(mark + prediction.name, room, LABEL, tail)]
    if prediction.correct is False:
        lines.append(shorten(f"true: {prediction.label}", room, LABEL))
    step, top = page.pixels(LEADING * LABEL), round(y + grid.heading)
    above = top - 3 - step * len(lines)
    page.lines(x, above - step, [shorten(explanation.name, room, LABEL)], LABEL, MUTED)
    page.lines(x, above, lines, LABEL, colour)
    for number, picture in enumerate(tile):
        page.picture(x + number * (grid.side + SEAM), top, picture.shape[1], picture.shape[0], picture)
    if len(tile) == 1:
        left, (height, width) = x + grid.side + SEAM, tile[0].shape[:2]
        page.blank(left, top, width, height, heatmaps.describe_flaw(explanation.attribution), NOTE)


def _write_title(drawn: Sequence[Explanation], total: int, room: float) -> str:
    classifier = ", ".join(dict.fromkeys(explanation.classifier for explanation in drawn))
    explainer = ", ".join(dict.fromkeys(explanation.explainer for explanation in drawn))
    count = count_noun(total, "image")
    tail = f"  ·  first {len(drawn):,} of {count}" if total > len(drawn) else f"  ·  {count}"
    explainer = shorten(explainer, room / 2, TITLE, bold=True)
    tail = f"  ·  {explainer}{tail}"
    return shorten(classifier, room, TITLE, tail, bold=True) if measure_width(tail, TITLE, True) < room else tail[5:]


def _write_note(drawn: Sequence[Explanation], tiles: Iterable[Tile], outlier_percent: float, room: float) -> list[str]:
    note = f"colour scale of each map clipped so that {outlier_percent:g} % of its attribution mass saturates"
    if any(tile.averaged for tile in tiles):
        note += "; fine maps are averaged over blocks of pixels"
    if any(explanation.warnings for explanation in drawn):
        note += "  ·  \N{WARNING SIGN} marks a map with a warning, which its own panel names"
    return wrap(note, room, NOTE)


MOST_LINES = 4
"""Lines of a target above a map, at most: contrasts of long names need several."""
SIDE = 160
"""About what small images are enlarged to, in pixels, where methods or networks stand side by side."""


def draw_matrix(
    rows: Sequence[Sequence[Explanation | None]],
    columns: Sequence[str],
    title: str,
    colours: str = "default",
    outlier_percent: float = 2.0,
    strength: float = 0.7,
) -> Drawing:
    """Draw images side by side with their maps of several methods or networks.

    Above each map stands what is explained where that is not the same in the whole row, or what the network predicts where
    networks differ. Where networks cut or scale an image differently, each has the image as it saw it beside its maps.

    Args:
        rows: For each image an explanation in every column; None where there is none. A row has at least one.
        columns: What the columns are called.
        title: Line above all.
        colours: default or classic.
        outlier_percent: Share of the attribution mass that saturates the colours, in [0, 100).
        strength: Opacity of the overlay, in [0, 1].

    Returns:
        The page, at 100 pixels an inch.

    Raises:
        UserError: If there is nothing to draw.
    """
    drawn = [[each for each in row if each is not None] for row in rows]
    if not columns or not drawn or not all(drawn):
        raise UserError("a sheet of methods or networks needs an explanation in each row")
    style = colours, outlier_percent, strength, SIDE
    tiles = [[None if each is None else _draw_tile(each, *style) for each in row] for row in rows]
    shapes = [tile.pictures[0].shape for row in tiles for tile in row if tile]
    height, side = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    own = [_has_own_image(tiles, number) for number in range(len(columns))]
    places = [number + 1 + sum(own[: number + 1]) for number in range(len(columns))]
    page = Page(max(NARROWEST, 2 * MARGIN + (places[-1] + 1) * (side + GAP) - GAP), RESOLUTION)
    room, cell = page.points(page.width - 2 * MARGIN), page.points(side)
    y = page.lines(MARGIN, MARGIN / 2, [shorten(title, room, TITLE, bold=True)], TITLE, weight="bold") + LINE_GAP
    headings = dict(zip(places, (wrap(name, cell, LABEL, most=3) for name in columns), strict=True))
    headings |= {
        place - 1: wrap(f"image of {name}", cell, LABEL, most=3)
        for place, name, has_own in zip(places, columns, own, strict=True)
        if has_own
    }
    step = page.pixels(LEADING * LABEL)
    y += step * max(map(len, headings.values()))
    for number, lines in headings.items():
        page.lines(MARGIN + number * (side + GAP), y - step * len(lines), lines, LABEL, weight="bold")
    for row, explained, line in zip(rows, drawn, tiles, strict=True):
        first, original = explained[0], next(tile for tile in line if tile).pictures[0]
        same = len({(each.target.name, each.classifier) for each in explained}) == 1
        label = f"true: {first.prediction.label}" if first.prediction.label else ""
        if same:
            label = _describe_target(first) + (f", {label}" if first.prediction.correct is False else "")
        words = [shorten(first.image_name, cell, LABEL), *wrap(label, cell, LABEL, most=MOST_LINES)]
        captions = [_write_caption(each, cell, not same) for each in row]
        lines_above = max(2, len(words), *map(len, captions))
        y += lines_above * step + LINE_GAP
        page.lines(MARGIN, y - step * max(2, len(words)) - 3, words, LABEL)
        page.picture(MARGIN, y, original.shape[1], original.shape[0], original)
        for number, (explanation, tile, caption) in enumerate(zip(row, line, captions, strict=True)):
            x = MARGIN + places[number] * (side + GAP)
            if own[number] and tile:
                seen = tile.pictures[0]
                page.picture(x - side - GAP, y, seen.shape[1], seen.shape[0], seen)
            page.lines(x, y - step * len(caption) - 3, caption, LABEL, _colour_caption(explanation, not same))
            _draw_map(page, x, y, (height, side), explanation, tile)
        y += height
    shown = [tile for row in tiles for tile in row if tile]
    note = _write_note([each for row in drawn for each in row], shown, outlier_percent, room)
    y = page.lines(MARGIN, y + LINE_GAP, note, NOTE, MUTED)
    return page.finish(y + MARGIN / 2)


def _has_own_image(tiles: Sequence[Sequence[Tile | None]], column: int) -> bool:
    """Whether the image of a column is another than that of the columns before it, in any row."""
    for row in tiles:
        before, tile = [each for each in row[:column] if each], row[column]
        if before and tile and not np.array_equal(before[-1].pictures[0], tile.pictures[0]):
            return True
    return False


def _describe_target(explanation: Explanation) -> str:
    target, prediction = explanation.target, explanation.prediction
    mark = MARKS[prediction.correct] if target.name == prediction.name else ""
    tail = f" {format_probability(target.probability)}" if target.probability == target.probability else ""
    return f"{mark}{target.name}{tail}"


def _write_caption(explanation: Explanation | None, width: float, captioned: bool) -> list[str]:
    """What is explained, where the row does not say it, and the sign of a warning."""
    if explanation is None:
        return []
    words = _describe_target(explanation) if captioned else ""
    return wrap(words + ("  \N{WARNING SIGN}" if explanation.warnings else ""), width, LABEL, most=MOST_LINES)


def _colour_caption(explanation: Explanation | None, captioned: bool) -> str:
    if explanation is None or not captioned or explanation.target.name != explanation.prediction.name:
        return INK
    return {True: RIGHT, False: WRONG, None: INK}[explanation.prediction.correct]


def _draw_map(
    page: Page, x: float, y: float, shape: tuple[int, int], explanation: Explanation | None, tile: Tile | None
) -> None:
    """The overlay of one explanation."""
    if explanation is None or tile is None:
        page.blank(x, y, shape[1], shape[0], "not explained", NOTE)
        return
    if len(tile.pictures) == 1:
        height, width = tile.pictures[0].shape[:2]
        page.blank(x, y, width, height, heatmaps.describe_flaw(explanation.attribution), NOTE)
    else:
        overlay = tile.pictures[1]
        page.picture(x, y, overlay.shape[1], overlay.shape[0], overlay)
