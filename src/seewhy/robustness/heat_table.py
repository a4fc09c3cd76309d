"""Corruption x level as a table whose cells are coloured by their numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seewhy.colours import FRAME, GROUND, INK, MUTED, oklab_to_srgb
from seewhy.drawing import Drawing
from seewhy.page import LEADING, Page, shorten, wrap
from seewhy.robustness.summary import CLEAN, values_of

RESOLUTION = 110
TITLE, HEADER, BODY, NOTE = 10.0, 8.5, 8.0, 7.5
MARGIN, GAP, CELL, ROW, NAMES = 20, 26, 46, 22, 130


def heat_table(summary: pd.DataFrame, quantities: dict[str, str], title: str) -> Drawing:
    """One block per quantity, one row per corruption, one column per level; darker is lower.

    Colours run from 0 to 1; a number below 0 has the colour of 0.
    """
    values = values_of(summary)
    names = list(dict.fromkeys(corruption for corruption, _, _ in values if corruption != CLEAN))
    levels = sorted({level for _, level, _ in values})
    per_row = min(3, len(quantities))
    block_width, block_height = len(levels) * CELL, (len(names) + 1) * ROW
    page = Page(2 * MARGIN + NAMES + per_row * (block_width + GAP) - GAP, RESOLUTION)
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN / 2, wrap(title, room, TITLE, True), TITLE, weight="bold") + 6
    heading = 2 * page.pixels(LEADING * HEADER)
    for number, (quantity, words) in enumerate(quantities.items()):
        row, column = divmod(number, per_row)
        x, top = MARGIN + NAMES + column * (block_width + GAP), y + row * (heading + block_height + GAP)
        lines = wrap(words, page.points(block_width), HEADER, True, most=2)
        page.lines(x, top + heading - len(lines) * heading / 2, lines, HEADER, weight="bold")
        if column == 0:
            _names(page, top + heading, names)
        _block(page, x, top + heading, quantity, values, names, levels)
    y += -(-len(quantities) // per_row) * (heading + block_height + GAP)
    note = (
        "means over the images; columns are levels, 0 is the clean image; the intervals are in robustness_summary.csv"
    )
    y = page.lines(MARGIN, y - GAP / 2, wrap(note, room, NOTE), NOTE, MUTED)
    return page.finish(y + MARGIN / 2)


def _names(page: Page, top: float, names: list[str]) -> None:
    for number, name in enumerate(names, 1):
        words = shorten(name.replace("_", " "), page.points(NAMES - 8), BODY)
        page.text(MARGIN, top + (number + 0.68) * ROW, words, BODY)


def _block(
    page: Page,
    x: float,
    top: float,
    quantity: str,
    values: dict[tuple[str, int, str], float],
    names: list[str],
    levels: list[int],
) -> None:
    for column, level in enumerate(levels):
        page.text(x + (column + 0.5) * CELL, top + 0.68 * ROW, str(level), BODY, MUTED, ha="center")
        for number, name in enumerate(names, 1):
            value = values.get((name if level else CLEAN, level, quantity))
            left, y = x + column * CELL, top + number * ROW
            page.box(left, y, CELL - 1, ROW - 1, GROUND if value is None else colour(value))
            if value is not None:
                ink = INK if value > 0.5 else "#ffffff"
                words = f"{value:.2f}".replace("-", "−")
                page.text(left + CELL / 2, y + 0.68 * ROW, words, BODY, ink, ha="center")
    page.box(x, top + ROW - 1, len(levels) * CELL - 1, 1, FRAME)


def colour(value: float) -> str:
    """From dark blue (0) to near-white (1), in equal steps of lightness."""
    share = float(np.clip(value, 0, 1))
    dark, light = np.array([0.30, -0.02, -0.11]), np.array([0.97, 0.0, 0.0])
    red, green, blue = np.rint(oklab_to_srgb(dark + share * (light - dark)) * 255).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
