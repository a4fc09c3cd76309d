"""Bars of shares in [0, 1], a group for each name and a colour for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seewhy.colours import FRAME, INK, MUTED
from seewhy.drawing import Drawing
from seewhy.page import Page, shorten, wrap

COLOURS = ("#8a8a8a", "#0072b2", "#d55e00", "#009e73")
MARGIN, HEIGHT, BAR, GAP, AXIS = 44, 420, 42, 40, 110
TITLE, BODY, SMALL = 11.0, 8.5, 7.0


def share_bars(title: str, note: str, groups: Sequence[str], kinds: Mapping[str, Sequence[float]]) -> Drawing:
    """One group of bars for each name in `groups`, a bar for each kind with its value on top; NaN leaves a gap."""
    side = len(kinds) * BAR + GAP
    page = Page(max(900, 2 * MARGIN + AXIS + len(groups) * side))
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(title, room, TITLE, True), TITLE, weight="bold")
    y = page.lines(MARGIN, y, wrap(note, room, BODY), BODY, MUTED)
    x = float(MARGIN)
    for kind, colour in zip(kinds, COLOURS, strict=False):
        page.box(x, y + 10, 24, 24, colour)
        page.lines(x + 34, y + 2, [kind], BODY)
        x += 34 + page.pixels(6.2 * len(kind)) + GAP
    top = y + 90
    for tick in (0, 0.25, 0.5, 0.75, 1):
        level = top + HEIGHT * (1 - tick)
        page.box(MARGIN + AXIS - 20, level, page.width - 2 * MARGIN - AXIS + 20, 2 if not tick else 1, FRAME)
        page.text(MARGIN + AXIS - 30, level + page.pixels(0.36 * SMALL), f"{tick:g}", SMALL, MUTED, ha="right")
    for position, name in enumerate(groups):
        left = MARGIN + AXIS + position * side
        for number, (values, colour) in enumerate(zip(kinds.values(), COLOURS, strict=False)):
            _bar(page, left + number * BAR, top, values[position], colour)
        words = shorten(name, page.points(side - 6), SMALL)
        page.text(left + len(kinds) * BAR / 2, top + HEIGHT + 34, words, SMALL, INK, ha="center")
    return page.finish(top + HEIGHT + 34 + MARGIN)


def _bar(page: Page, left: float, top: float, value: float, colour: str) -> None:
    if value == value:
        page.box(left + 2, top + HEIGHT * (1 - value), BAR - 4, HEIGHT * value, colour)
        shown = f"{value:.2f}".removeprefix("0")
        page.text(left + BAR / 2, top + HEIGHT * (1 - value) - 6, shown, SMALL, MUTED, ha="center")
