"""Pictures of a run side by side, each under its words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from seewhy.plots.canvas import Drawing, Page
from seewhy.plots.text import LEADING, shorten

SIDE, GAP, MARGIN = 190, 8, 12
LABEL, RESOLUTION = 8.0, 100


def picture_row(pictures: Mapping[str, Path]) -> Drawing:
    """One row of picture files under their words, all of one size."""
    page = Page(2 * MARGIN + len(pictures) * (SIDE + GAP) - GAP, RESOLUTION)
    top = round(MARGIN + page.pixels(LEADING * LABEL))
    for number, (words, path) in enumerate(pictures.items()):
        x = MARGIN + number * (SIDE + GAP)
        page.lines(x, MARGIN / 2, [shorten(words, page.points(SIDE), LABEL)], LABEL)
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        page.picture(x, top, SIDE, SIDE, np.asarray(small))
    return page.finish(top + SIDE + MARGIN)
