"""What a run leaves of its metrics: metrics.json, summary.csv, targets.csv, curves.csv and curves.png."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd

from seewhy.core.cells import quote_cell
from seewhy.core.files import RunFolder
from seewhy.core.target_choice import name_image
from seewhy.runs.batch_results import BatchResults, Curve, CurveRow
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
        journal: What they are made from; it is read once, one batch in memory at a time.
        heading: Of the figure; the number of images is added.
        seed: Of the bootstrap.
    """
    measured: set[str] = set()

    def read() -> Iterator[BatchResults]:
        for results in journal.read_batches():
            measured.update(each.image_name for each in results.explanations if each.metrics)
            yield results

    batches = read()
    first = next((results for results in batches if results.curves), None)
    if first is None:
        return
    from seewhy.plots.canvas import encode_figure
    from seewhy.plots.curves import draw_curves

    drawn = DrawnCurves()
    with folder.writing_csv("curves.csv", CurveRow._fields) as table:
        for results in chain((first,), batches):
            drawn.add(results.curves)
            for curve in results.curves:
                table.add_numbers(curve[:3], zip(*map(_format_numbers, curve[3:]), strict=True))
    count = len(measured)
    words = f"{count} images" if count <= DRAWN else f"the first {DRAWN:,} of {count:,} images"
    folder.write_bytes("curves.png", encode_figure(draw_curves(drawn.tabulate(), f"{heading}, {words}", seed)))


def tabulate_curves(curves: Sequence[Curve]) -> pd.DataFrame:
    """Tabulate the points of curves as curves.csv does.

    Args:
        curves: At least one.

    Returns:
        A row for each point, with the columns image, curve, share, logit and probability.
    """
    lengths = [len(curve.shares) for curve in curves]
    images, kinds = (
        pd.Categorical(values).repeat(lengths) for values in ([each[at] for each in curves] for at in (0, 2))
    )
    shares, logits, probabilities = (np.concatenate([each[at] for each in curves]) for at in (3, 4, 5))
    return pd.DataFrame(
        {"image": images, "curve": kinds, "share": shares, "logit": logits, "probability": probabilities}
    )


class DrawnCurves:
    """The curves of the first `DRAWN` images."""

    def __init__(self) -> None:
        self._images: set[str] = set()
        self._curves: list[Curve] = []

    def add(self, curves: Sequence[Curve]) -> None:
        """Take those of a batch that are drawn.

        Args:
            curves: Of the batch; those of one image are in one batch.
        """
        if len(self._images) < DRAWN:
            names = dict.fromkeys(name_image(curve.image) for curve in curves)
            new = set(list(names)[: DRAWN - len(self._images)])
            self._images |= new
            self._curves += [curve for curve in curves if name_image(curve.image) in new]

    def tabulate(self) -> pd.DataFrame:
        """Tabulate the points, see `tabulate_curves`."""
        return tabulate_curves(self._curves)


def _format_numbers(values: Sequence[float]) -> list[str]:
    """Seven significant digits; an empty cell where there is no value."""
    return ["" if value != value else f"{value:.7g}" for value in values]
