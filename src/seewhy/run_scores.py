"""What a run leaves of its metrics: metrics.json, summary.csv, curves.csv and curves.png."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from seewhy.metric_facts import facts_of, write_metric_facts
from seewhy.metrics.base import ImageMetric
from seewhy.run_folder import RunFolder
from seewhy.score_rows import CurveRow, ScoreRow
from seewhy.statistics.summary import summarise


def write_scores(
    folder: RunFolder, metrics: Mapping[str, ImageMetric], scores: Sequence[ScoreRow], seed: int = 0
) -> pd.DataFrame:
    """Write metrics.json and summary.csv; the summary."""
    facts = facts_of(metrics.values())
    write_metric_facts(folder, facts)
    summary = summarise(pd.DataFrame(scores, columns=list(ScoreRow._fields)), facts, seed)
    text = summary.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    folder.write_bytes("summary.csv", text.encode())
    return summary


def write_curves(folder: RunFolder, rows: Sequence[CurveRow], heading: str, seed: int = 0) -> None:
    """Write curves.csv and curves.png, where a metric was read off a curve."""
    if not rows:
        return
    from seewhy.curve_figure import curves_figure
    from seewhy.png import png

    table = pd.DataFrame(rows, columns=list(CurveRow._fields))
    text = table.to_csv(index=False, float_format="%.7g", lineterminator="\n")
    folder.write_bytes("curves.csv", text.encode())
    folder.write_bytes("curves.png", png(curves_figure(table, heading, seed)))
