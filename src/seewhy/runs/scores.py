"""What a run leaves of its metrics: metrics.json, summary.csv, targets.csv, curves.csv and curves.png."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from seewhy.core.cells import quote_cell
from seewhy.core.files import RunFolder
from seewhy.core.target_choice import name_image
from seewhy.runs.batch_results import CurveRow
from seewhy.runs.journal import Journal
from seewhy.statistics.schema import MetricFact, write_metric_facts
from seewhy.statistics.summary import summarise_metrics, summarise_targets

DRAWN = 10_000
"""Images whose curves are in memory at once, to be drawn; curves.csv has those of all."""


def write_scores(
    folder: RunFolder, facts: Mapping[str, MetricFact], journal: Journal, seed: int = 0
) -> pd.DataFrame | None:
    """Write metrics.json and summary.csv and, where several targets of an image are explained, targets.csv.

    Args:
        folder: Where they are written.
        facts: Of each metric that was measured.
        journal: What they are made from.
        seed: Of the bootstrap.

    Returns:
        The summary, that of each target where there are several; None where nothing was measured.
    """
    rows = [
        (explanation.name, explanation.explainer, explanation.target.policy, metric, value)
        for explanation in journal.read_explanations()
        for metric, value in explanation.metrics.items()
    ]
    if not rows:
        return None
    write_metric_facts(folder, facts)
    table = pd.DataFrame(rows, columns=["image", "explainer", "target_policy", "metric", "value"])
    summary, by_target = summarise_metrics(table, facts, seed), summarise_targets(table, facts, seed)
    for name, each in (("summary.csv", summary), ("targets.csv", by_target)):
        if each is not None:
            text = each.map(quote_cell).to_csv(index=False, float_format="%.6g", lineterminator="\n")
            folder.write_bytes(name, text.encode())
    return summary if by_target is None else by_target


def write_curves(folder: RunFolder, journal: Journal, heading: str, seed: int = 0) -> None:
    """Write curves.csv and curves.png, where a metric was read off a curve.

    Args:
        folder: Where they are written.
        journal: What they are made from.
        heading: Of the figure; the number of images is added.
        seed: Of the bootstrap.
    """
    table = pd.DataFrame(_list_points(journal), columns=["image", "curve", "share", "logit", "probability"])
    if not len(table):
        return
    from seewhy.plots.canvas import encode_figure
    from seewhy.plots.curves import draw_curves

    rows = (_format_row(row) for results in journal.read_batches() for row in results.curves)
    folder.write_csv("curves.csv", CurveRow._fields, rows)
    images = len({explanation.image_name for explanation in journal.read_explanations() if explanation.metrics})
    count = f"{images} images" if images <= DRAWN else f"the first {DRAWN:,} of {images:,} images"
    folder.write_bytes("curves.png", encode_figure(draw_curves(table, f"{heading}, {count}", seed)))


def _list_points(journal: Journal) -> Iterator[tuple[str, str, float, float, float]]:
    """The points of the first `DRAWN` images."""
    images: set[str] = set()
    for results in journal.read_batches():
        images.update(list(dict.fromkeys(name_image(row.image) for row in results.curves))[: DRAWN - len(images)])
        for row in results.curves:
            if name_image(row.image) in images:
                yield row.image, row.curve, row.share, row.logit, row.probability
        if len(images) == DRAWN:
            return


def _format_row(row: CurveRow) -> dict[str, str]:
    """Seven significant digits; an empty cell where there is no value."""
    numbers = {name: getattr(row, name) for name in ("share", "logit", "probability")}
    names = {"image": row.image, "explainer": row.explainer, "curve": row.curve}
    return names | {name: "" if value != value else f"{value:.7g}" for name, value in numbers.items()}
