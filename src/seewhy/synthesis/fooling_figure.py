"""Original, fooling image, difference and ten times the difference, with true values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from seewhy.colours import INK, MUTED, RIGHT, WRONG
from seewhy.drawing import Drawing
from seewhy.figures import number
from seewhy.page import joined, wrap
from seewhy.synthesis.fooled_image import FooledImage
from seewhy.synthesis.picture_row import GAP, MARGIN, enlarged, page_of, picture_row
from seewhy.views import Cell, photograph, share

HEADING, BODY, SMALL = 11.0, 8.5, 7.5
MAGNIFIED = 10


def fooling_panel(made: FooledImage, parameters: str, classifier: str) -> Drawing:
    """Four pictures of one image: nothing is rescaled to its own range, and grey stands for no change."""
    height, width = made.original.shape[-2:]
    side = enlarged(height, 448), enlarged(width, 448)
    page = page_of(4, side[1])
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(_headline(made), room, HEADING, True), HEADING, weight="bold")
    for line in joined([f"classifier: {classifier}", f"image: {made.name}", parameters], room, BODY):
        y = page.lines(MARGIN, y, wrap(line, room, BODY), BODY, MUTED)
    y = picture_row(page, y + GAP / 2, cells(made), side, BODY) + GAP / 2
    for line in joined(_numbers(made), room, SMALL):
        y = page.lines(MARGIN, y, wrap(line, room, SMALL), SMALL, MUTED)
    return page.finish(y + MARGIN * 0.7)


def fooling_sheet(shown: Sequence[FooledImage], total: int, parameters: str, classifier: str) -> Drawing:
    """The four pictures of every image, one image a row."""
    height, width = (max(made.original.shape[axis] for made in shown) for axis in (-2, -1))
    side = enlarged(height, 224), enlarged(width, 224)
    page = page_of(4, side[1])
    room = page.points(page.width - 2 * MARGIN)
    fooled = f"{sum(made.success for made in shown)} of {len(shown)} images are taken for the target"
    title = fooled if total == len(shown) else f"the first {len(shown)} of {total:,} images: {fooled}"
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(title, room, HEADING, True), HEADING, weight="bold")
    for line in joined([f"classifier: {classifier}", parameters], room, SMALL):
        y = page.lines(MARGIN, y, wrap(line, room, SMALL), SMALL, MUTED)
    for made in shown:
        y = picture_row(page, y + GAP / 2, cells(made), side, SMALL)
    return page.finish(y + MARGIN * 0.7)


def cells(made: FooledImage) -> list[Cell]:
    """The four pictures under what the classifier says, or under what the picture shows."""
    before = f"{made.predicted.name} {share(made.predicted.before)}"
    shown = made.target if made.success else made.predicted
    after = f"{made.answer} {share(shown.after)}" if made.answer == shown.name else made.answer
    clipped = float((MAGNIFIED * made.difference).abs().gt(0.5).float().mean())
    saturated = f", {100 * clipped:.2g} % clipped" if clipped else ""
    return [
        Cell([("original", MUTED), (before, INK)], photograph(made.original)),
        Cell([("fooling image", MUTED), (after, RIGHT if made.success else WRONG)], photograph(made.saved)),
        Cell([("difference", INK), ("grey: no change", MUTED)], around_grey(made.difference)),
        Cell(
            [(f"{MAGNIFIED} × difference", INK), (f"grey: no change{saturated}", MUTED)],
            around_grey(MAGNIFIED * made.difference),
        ),
    ]


def around_grey(difference: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """0.5 + difference as [height, width, 3], clipped to [0, 1]: true values around a middle grey."""
    return photograph(0.5 + difference)


def _headline(made: FooledImage) -> str:
    if made.outcome == "already the target":
        return f"{made.predicted.name} is already the target"
    verdict = f"taken for {made.answer}" if made.success else f"not taken for {made.target.name}: {made.outcome}"
    return f"{made.predicted.name} {verdict} after {made.steps} step{'' if made.steps == 1 else 's'}"


def _numbers(made: FooledImage) -> list[str]:
    psnr = "no change" if math.isinf(made.psnr) else f"PSNR {made.psnr:.1f} dB"
    return [
        *(f"p({said.name}) {share(said.before)} → {share(said.after)}" for said in (made.predicted, made.target)),
        f"L2 {number(made.l2)} ({number(made.l2_unrounded)} before rounding to 8 bits)",
        f"L∞ {made.linf * 255:.0f}/255",
        psnr,
    ]
