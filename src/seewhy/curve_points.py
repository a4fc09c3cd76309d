"""The mean perturbation curves of a run as points for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from seewhy.journal.journal import Journal
from seewhy.score_rows import CurveRow


def curve_points(journal: Journal) -> Iterator[tuple[str, int, float]]:
    """(tag, percentage of the pixels, mean over the images that reach it) of every perturbation curve."""
    rows = [row for entry in journal.entries() for row in entry.curves]
    if not rows:
        return
    import pandas as pd  # takes longer than all else here, and a run without metrics needs no table

    from seewhy.curve_figure import GRID, on_grid

    table = pd.DataFrame(rows, columns=list(CurveRow._fields))
    for curve, part in table.groupby("curve"):
        for quantity in ("probability", "logit"):
            values = on_grid(part, quantity)
            for share, column in zip(GRID, values.T, strict=True):
                if np.isfinite(column).any():
                    yield f"curves/{curve}/{quantity}", round(100 * share), float(np.nanmean(column))
