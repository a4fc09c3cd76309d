"""What a run leaves of its metrics: metrics.json, summary.csv, curves.csv and curves.png."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from seewhy.core.files import RunFolder
from seewhy.core.types import Explanation
from seewhy.runs.batch_results import CurveRow
from seewhy.runs.journal import Journal
from seewhy.statistics.schema import MetricFact, write_metric_facts
from seewhy.statistics.summary import summarise_metrics

DRAWN = 10_000
"""Images whose curves are in memory at once, to be drawn; curves.csv has those of all."""


def write_scores(
    folder: RunFolder, facts: Mapping[str, MetricFact], journal: Journal, seed: int = 0
) -> pd.DataFrame | None:
    """Write metrics.json and summary.csv; the summary, None where nothing was measured."""
    rows = [row for entry in journal.entries() for row in _score_rows(entry.explanations())]
    if not rows:
        return None
    write_metric_facts(folder, facts)
    summary = summarise_metrics(pd.DataFrame(rows, columns=list(_ScoreRow._fields)), facts, seed)
    text = summary.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    folder.write_bytes("summary.csv", text.encode())
    return summary


def write_curves(folder: RunFolder, journal: Journal, heading: str, seed: int = 0) -> None:
    """Write curves.csv and curves.png, where a metric was read off a curve; the heading gets the number of images."""
    table = pd.DataFrame(_points(journal), columns=["image", "curve", "share", "probability"])
    if not len(table):
        return
    from seewhy.plots.canvas import encode_figure
    from seewhy.plots.curves import draw_curves

    rows = (_printed(row) for entry in journal.entries() for row in entry.curves)
    folder.write_csv("curves.csv", CurveRow._fields, rows)
    images = sum(bool(one.metrics) for one in journal.explanations())
    words = f"{images} images" if images <= DRAWN else f"the first {DRAWN:,} of {images:,} images"
    folder.write_bytes("curves.png", encode_figure(draw_curves(table, f"{heading}, {words}", seed)))


def _points(journal: Journal) -> Iterator[tuple[str, str, float, float]]:
    """The points of the first images."""
    images: set[str] = set()
    for entry in journal.entries():
        images.update(list(dict.fromkeys(row.image for row in entry.curves))[: DRAWN - len(images)])
        yield from ((row.image, row.curve, row.share, row.probability) for row in entry.curves if row.image in images)
        if len(images) == DRAWN:
            return


def _printed(row: CurveRow) -> dict[str, str]:
    """Seven significant digits; an empty cell where there is no value."""
    numbers = {name: getattr(row, name) for name in ("share", "logit", "probability")}
    words = {"image": row.image, "explainer": row.explainer, "curve": row.curve}
    return words | {name: "" if value != value else f"{value:.7g}" for name, value in numbers.items()}


class _ScoreRow(NamedTuple):
    """One value of one image."""

    image: str
    explainer: str
    metric: str
    value: float


def _score_rows(explanations: Iterable[Explanation]) -> list[_ScoreRow]:
    """The metrics of a batch, one value a row."""
    return [
        _ScoreRow(one.name, one.explainer, name, value) for one in explanations for name, value in one.metrics.items()
    ]
