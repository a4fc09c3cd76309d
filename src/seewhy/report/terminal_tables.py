"""The leaderboard and the scores of a run as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from seewhy.report.comparison import Comparison
from seewhy.statistics.schema import ARROWS

CELL = 26
"""Characters that a column of the leaderboard needs at most."""
SIGNS = {"no": "≈ ", "untested": "? "}
LEGEND = {
    "no": "≈ does not beat random (sign-flip permutation test of the mean with Holm's correction, p < 0.05)",
    "untested": "? too few images to compare with random",
}


def build_leaderboard_table(comparison: Comparison, width: int = 100) -> RenderableType:
    """Build the leaderboard: mean [low, high], the best in bold, a sign where random is not beaten.

    Args:
        comparison: Of the explainers of one model.
        width: Characters of the terminal; metrics that do not fit side by side stand below.

    Returns:
        Explainers x metrics with a direction, then what the signs mean and the notes.
    """
    names = comparison.explainers
    metrics = list(comparison.ranks)
    beside = max(1, (width - max(map(len, names)) - 2) // CELL)
    parts: list[RenderableType] = [Text(_write_heading(comparison), style="bold")]
    for first in range(0, len(metrics), beside):
        parts.append(_build_block(comparison, names, metrics[first : first + beside]))
    signs = {comparison.get_verdict(name, metric) for name in names for metric in metrics}
    parts += [Text(words, style="yellow") for sign, words in LEGEND.items() if sign in signs]
    if comparison.joined.control is None and metrics:
        parts.append(Text("random is not among the runs, so nothing is compared with it", style="yellow"))
    notes = list_notes(comparison.summary[comparison.summary["metric"].isin(metrics)])
    return Group(*parts, *(Text(note, style="yellow") for note in notes))


def _write_heading(comparison: Comparison) -> str:
    joined = comparison.joined
    return f"{joined.model}: {joined.images:,} images, target {joined.target}, mean [95 % interval]"


def _build_block(comparison: Comparison, names: list[str], metrics: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("explainer", overflow="fold")
    for metric in metrics:
        table.add_column(f"{escape(metric)} {ARROWS[comparison.joined.facts[metric].better]}", justify="right")
    best = {metric: comparison.list_best(metric) for metric in metrics}
    for name in names:
        cells = [_build_cell(comparison, name, metric, name in best[metric]) for metric in metrics]
        table.add_row(Text(name, style="dim" if comparison.leaderboard["control"][name] else ""), *cells)
    return table


def _build_cell(comparison: Comparison, name: str, metric: str, best: bool) -> Text:
    mean, low, high = comparison.get_mean(name, metric)
    sign = SIGNS.get(comparison.get_verdict(name, metric), "")
    return Text(sign + _write_interval(mean, low, high), style="bold" if best else "")


def _write_interval(mean: float, low: float, high: float) -> str:
    if math.isnan(mean):
        return "no value"
    return (
        format_value(mean) if math.isnan(low) else f"{format_value(mean)} [{format_value(low)}, {format_value(high)}]"
    )


def format_value(value: float) -> str:
    """Format a value with three significant digits, or with three decimals between 0.01 and 1.

    Args:
        value: Any number.

    Returns:
        Such as 0.873 or 12.4.
    """
    return f"{value:.3f}" if 0.01 <= abs(value) < 1 or value == 0 else f"{value:.3g}"


def build_scores_table(summary: pd.DataFrame) -> RenderableType:
    """Build the scores of one explainer, a metric a row: mean, interval, median, n and failures.

    Args:
        summary: `summarise_metrics` of one explainer.

    Returns:
        The table and, below it, each note once.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric", overflow="fold")
    table.add_column("")
    for title in ("mean", "95 % interval", "median", "n", "failures"):
        table.add_column(title, justify="right", no_wrap=True)
    arrows: dict[str, str] = {direction or "none": arrow for direction, arrow in ARROWS.items()}
    for row in summary.to_dict("records"):
        interval = "" if math.isnan(row["low"]) else f"[{format_value(row['low'])}, {format_value(row['high'])}]"
        mean, median = ("" if row["n"] == 0 else format_value(row[key]) for key in ("mean", "median"))
        cells = [row["metric"], arrows[row["better"]], mean, interval, median, row["n"], row["failures"]]
        table.add_row(*(escape(str(cell)) for cell in cells))
    noted = summary[summary["note"] != ""]
    notes = []
    for note, rows in noted.groupby("note"):
        subject = "every score" if len(rows) == len(summary) else join_names([str(name) for name in rows["metric"]])
        notes.append(Text(f"{subject}: {note}", style="yellow"))
    return Group(table, *notes)


def join_names(names: Sequence[str]) -> str:
    """Name the first three and count the others.

    Args:
        names: Any names.

    Returns:
        Such as: a, b, c and 2 more.
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def list_notes(summary: pd.DataFrame) -> list[str]:
    """List the notes of a summary.

    Args:
        summary: `summarise_metrics` of any explainers.

    Returns:
        Each note once, with the explainers and metrics that it is about.
    """
    noted = summary[summary["note"] != ""]
    return [
        f"{note}: {join_names([f'{row.explainer} {row.metric}' for row in rows.itertuples()])}"
        for note, rows in noted.groupby("note")
    ]
