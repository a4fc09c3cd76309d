"""The robustness runs of a page: charts, tables and sheets by corruption and level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from seewhy.analyses.robustness.figures import select_curve_quantities
from seewhy.analyses.robustness.summary import CLEAN, select_levels
from seewhy.report.html import tables
from seewhy.report.html.charts import Chart, Line
from seewhy.report.html.gallery import Method
from seewhy.report.html.maps import build_data_url, compress_figure
from seewhy.report.runs import list_sheets, read_figures, read_robustness, read_robustness_images
from seewhy.statistics.intervals import DIFFERENCE, compute_mean_intervals

SHEET_SIDE = 2400
"""Largest side in pixels of a sheet on the page; the file beside it is larger."""


def build_robustness_charts(summary: pd.DataFrame, explainers: Sequence[str]) -> list[Chart]:
    """Build one chart per corruption: accuracy, confidence and stability of the maps over the levels, with 95 % bands.

    Args:
        summary: robustness_summary.csv.
        explainers: Of the run.

    Returns:
        The charts by corruption.
    """
    quantities = select_curve_quantities(list(summary["quantity"].unique()), explainers)
    table = select_levels(summary[summary["quantity"].isin(list(quantities))])
    charts = []
    for corruption in [str(name) for name in table["corruption"].unique() if name != CLEAN]:
        lines = []
        for number, (quantity, words) in enumerate(quantities.items()):
            rows = table[table["corruption"].isin([CLEAN, corruption]) & (table["quantity"] == quantity)]
            rows = rows.sort_values("level")
            level, value, low, high = (rows[name].astype(float).tolist() for name in ("level", "value", "low", "high"))
            lines.append(Line(words, number, level, value, low, high))
        charts.append(Chart(corruption.replace("_", " "), "level (0: clean)", lines))
    return charts


def build_kept_chart(table: pd.DataFrame, explainers: Sequence[str], seed: int = 0) -> Chart | None:
    """Build a chart of how alike maps stay over the levels, split by whether the prediction was kept.

    Args:
        table: robustness.csv.
        explainers: Of the run.
        seed: Of the bootstrap.

    Returns:
        Two lines for each method, the means over images, each of which is averaged over corruptions; None where maps
        were not compared.
    """
    lines: list[Line] = []
    corrupted = table[table["corruption"] != CLEAN]
    for name in (name for name in explainers if f"{name}_spearman" in table):
        for flip, words in (("no", "prediction kept"), ("yes", "prediction changed")):
            rows = corrupted[corrupted["flip"] == flip]
            values = pd.to_numeric(rows[f"{name}_spearman"], errors="coerce")
            means = values.groupby([rows["level"], rows["image"]]).mean().dropna()
            levels = sorted(set(means.index.get_level_values("level")))
            if not levels:
                continue
            samples = [means.loc[level].to_numpy(float) for level in levels]
            intervals = compute_mean_intervals(samples, seed, bounds=DIFFERENCE)
            y = [float(sample.mean()) for sample in samples]
            low, high = ([getattr(interval, end) for interval in intervals] for end in ("low", "high"))
            x = [float(level) for level in levels]
            lines.append(Line(f"{name}, {words}", len(lines), x, y, low, high))
    return Chart("similarity of maps with those of the clean images", "level", lines) if lines else None


@dataclass(frozen=True)
class RobustnessView:
    """The robustness of one run.

    Args:
        explainer: Its label.
        charts: By corruption.
        heat: Tables of corruptions x levels.
        errors: Over all levels, by corruption.
        sheets: (words, data address) of pictures: those of the most severe level.
        left_out: Number of sheets that are not on the page.
        kept: Similarity of maps where predictions were kept and where they changed; None where maps were not compared.
    """

    explainer: str
    charts: list[Chart]
    heat: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    sheets: list[tuple[str, str]]
    left_out: int = 0
    kept: Chart | None = None


def build_robustness_view(method: Method) -> RobustnessView | None:
    """Build charts, tables and sheets of a robustness run.

    Args:
        method: Whose run it is.

    Returns:
        The view; None for any other run.
    """
    summary = read_robustness(method.run.folder)
    if summary is None or summary.empty:
        return None
    explainers = list(method.run.record.get("robustness", {}).get("explainers", {method.run.explainer: ""}))
    quantities = select_curve_quantities(list(summary["quantity"].unique()), explainers)
    names = list_sheets(method.run.folder)
    shown = [name for name in names if _read_level(name) == max(map(_read_level, names))]
    sheets = read_figures(method.run.folder, shown)
    return RobustnessView(
        method.label,
        build_robustness_charts(summary, explainers),
        tables.build_heat_tables(summary, quantities),
        tables.list_corruption_errors(summary),
        [
            (_describe_sheet(name), build_data_url(compress_figure(picture, SHEET_SIDE)))
            for name, picture in sheets.items()
        ],
        len(names) - len(shown),
        None if (each := read_robustness_images(method.run.folder)) is None else build_kept_chart(each, explainers),
    )


def _read_level(sheet: str) -> int:
    level = sheet.removeprefix("robustness/level_").removesuffix(".png").partition("_")[0]
    return int(level) if level.isdigit() else 0


def _describe_sheet(sheet: str) -> str:
    level, _, explainer = sheet.removeprefix("robustness/level_").removesuffix(".png").partition("_")
    return f"level {level}" + (f", maps of {explainer}" if explainer else ", images")
