"""What a robustness run leaves behind: two tables, curves, a heat table and the sheets, also for the loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from seewhy.analyses.robustness.figures import (
    draw_curves,
    draw_heat_table,
    select_curve_quantities,
    select_metric_quantities,
)
from seewhy.analyses.robustness.sheets import Gallery, draw_robustness_sheet, list_levels
from seewhy.analyses.robustness.summary import CLEAN, COLUMNS, WORDS, read_means
from seewhy.core.files import RunFolder
from seewhy.plots.canvas import Drawn, encode_figure
from seewhy.plots.text import format_probability
from seewhy.runs.loggers.backends import LoggerGroup

FIRST = (*WORDS[:4], "predicted", "probability", "correct", "flip", "true_probability", "clean_probability")
YES_NO = ("correct", "flip", "attack_success")


def write_rows(folder: RunFolder, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write robustness.csv: one row per image, corruption and level.

    Args:
        folder: The run folder.
        rows: One mapping per image, corruption and level.
    """
    keys = dict.fromkeys(key for row in rows for key in row)
    columns = [*FIRST, *(key for key in keys if key not in FIRST)]
    folder.write_csv("robustness.csv", columns, [{key: _cell(key, row[key]) for key in row} for row in rows])


def _cell(key: str, value: Any) -> str:
    if key in YES_NO:
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_summary(folder: RunFolder, summary: pd.DataFrame, differences: Mapping[str, str] | None = None) -> None:
    """Write robustness_summary.csv: means with intervals.

    Args:
        folder: The run folder.
        summary: Of `summarise_robustness`.
        differences: How a corruption differs from the published one, by its name.
    """
    rows = []
    for row in summary.itertuples(index=False):
        cells = {
            column: f"{value:.6g}" if isinstance(value, float) else value
            for column, value in zip(COLUMNS, row, strict=True)
        }
        notes = cells["note"], (differences or {}).get(str(cells["corruption"]))
        rows.append({**cells, "note": "; ".join(str(note) for note in notes if note)})
    folder.write_csv("robustness_summary.csv", COLUMNS, rows)


def write_figures(
    folder: RunFolder,
    summary: pd.DataFrame,
    gallery: Gallery,
    title: str,
    explainers: Sequence[str],
    metrics: Sequence[str] = (),
) -> dict[str, int]:
    """Draw the heat table, the curves and the sheets into robustness/.

    Args:
        folder: The run folder.
        summary: Of `summarise_robustness`.
        gallery: Tiles of the first images.
        title: Heading of every figure.
        explainers: Names of the methods.
        metrics: Names of the metrics that were taken on the corrupted images.

    Returns:
        The level of each picture by its file name; 0 where it shows all levels.
    """
    there = list(summary.quantity.unique())
    figures: dict[str, Drawn] = {"table": draw_heat_table(summary, select_curve_quantities(there, explainers), title)}
    figures["curves_prediction"] = draw_curves(summary, select_curve_quantities(there, ()), title)
    for explainer in explainers:
        lines = {
            name: words
            for name, words in select_curve_quantities(there, [explainer]).items()
            if name.startswith(f"{explainer}_")
        }
        if lines:
            figures[f"curves_{explainer}"] = draw_curves(summary, lines, title)
    for metric, lines in select_metric_quantities(there, explainers, metrics).items():
        figures[f"curves_metric_{metric}"] = draw_curves(summary, lines, title)
    written = {f"robustness/{name}.png": 0 for name in figures}
    for name, figure in figures.items():
        folder.write_bytes(f"robustness/{name}.png", encode_figure(figure))
    overlaid = {name for line in gallery.tiles.values() for tile in line.values() for name in tile.overlays}
    for level in list_levels(gallery.tiles):
        for shown in (None, *(name for name in explainers if name in overlaid)):
            name, words = (f"_{shown}", f"  ·  {shown}") if shown else ("", "")
            page = draw_robustness_sheet(gallery.tiles, level, f"{title}  ·  level {level}{words}", shown)
            folder.write_bytes(f"robustness/level_{level}{name}.png", encode_figure(page))
            written[f"robustness/level_{level}{name}.png"] = level
    return written


def build_results_table(
    summary: pd.DataFrame, quantities: Mapping[str, str], differences: Mapping[str, str] | None = None
) -> Table:
    """Build the terminal's table: each quantity on the clean image and at the last level, a row per corruption.

    Args:
        summary: Of `summarise_robustness`.
        quantities: Heading of each quantity by its column.
        differences: How a corruption differs from the published one, by its name.

    Returns:
        The table.
    """
    notes = [f"{name}: {words}" for name, words in (differences or {}).items() if words]
    caption = "\n".join(["levels that are not those of ImageNet-C:", *notes]) if notes else None
    table = Table(box=None, pad_edge=False, header_style="bold", caption=caption, caption_justify="left")
    means = read_means(summary)
    levels = {level for _, level, _ in means}
    table.add_column(f"clean → severity {max(levels)}", no_wrap=True)
    for words in quantities.values():
        table.add_column(words, overflow="fold")
    for name in dict.fromkeys(corruption for corruption, _, _ in means if corruption != CLEAN):
        last = max(level for corruption, level, _ in means if corruption == name)
        ends = [(means.get((CLEAN, 0, quantity)), means.get((name, last, quantity))) for quantity in quantities]
        table.add_row(
            name, *(" → ".join("-" if end is None else format_probability(end) for end in pair) for pair in ends)
        )
    return table


def log_summary(loggers: LoggerGroup, summary: pd.DataFrame, folder: Path, pictures: Mapping[str, int]) -> None:
    """Log curves over the level, the figures and the summary.

    Args:
        loggers: Of the run.
        summary: Of `summarise_robustness`; its curves are robustness/<quantity>/<corruption>.
        folder: The run folder.
        pictures: The level of each picture by its file name, which is the step; those of `write_figures`.
    """
    curves: dict[str, dict[int, float]] = {}
    values = read_means(summary)
    for (corruption, level, quantity), value in values.items():
        if level:
            curve = curves.setdefault(f"robustness/{quantity}/{corruption}", {})
            curve[level] = value
            if (CLEAN, 0, quantity) in values:
                curve[0] = values[CLEAN, 0, quantity]
    for name, points in curves.items():
        loggers.log_curve(name, sorted(points.items()))
    for name, level in pictures.items():
        stem = Path(name).stem.removeprefix(f"level_{level}").strip("_") or "sheet"
        loggers.log_files(folder, images={f"robustness/{stem}": name}, step=level)
    loggers.log_files(folder, ("robustness_summary",))
