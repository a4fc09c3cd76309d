"""The charts of a page from curves.csv and robustness_summary.csv, and its view of a robustness run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from seewhy.analyses.robustness.figures import select_curve_quantities
from seewhy.analyses.robustness.summary import CLEAN, select_levels
from seewhy.plots.curves import compute_mean_curve, compute_mean_line
from seewhy.report.html import tables
from seewhy.report.html.embed import build_data_url, compress_figure
from seewhy.report.html.gallery import Method
from seewhy.report.html.svg import Chart, Line
from seewhy.report.runs import list_sheets, read_figures, read_robustness


def build_curve_charts(tables: Mapping[str, pd.DataFrame], controls: Sequence[str], seed: int = 0) -> list[Chart]:
    """Build one chart per perturbation curve with a line per explainer.

    A single explainer has its 95 % band; lines of several would hide behind each other's.

    Args:
        tables: {label: curves.csv}.
        controls: Labels that are drawn quietly.
        seed: Of the bootstrap.

    Returns:
        The charts by name of the curve.
    """
    names = sorted({str(name) for table in tables.values() for name in table["curve"].unique()})
    charts = []
    for name in names:
        lines = []
        for number, (label, table) in enumerate(tables.items()):
            rows = table[table["curve"] == name]
            if rows.empty:
                continue
            if len(tables) == 1:
                lines.append(Line(label, number, *(values.tolist() for values in compute_mean_curve(rows, seed))))
            else:
                shares, mean = compute_mean_line(rows)
                lines.append(Line(label, number, shares.tolist(), mean.tolist(), quiet=label in controls))
        charts.append(Chart(name.replace("_", " ").replace("/", " / "), "share of the pixels", lines))
    return charts


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


@dataclass(frozen=True)
class RobustnessView:
    """The robustness of one run.

    Args:
        explainer: Its label.
        charts: By corruption.
        heat: Tables of corruptions x levels.
        errors: Over all levels, by corruption.
        sheets: (words, data address) of pictures.
    """

    explainer: str
    charts: list[Chart]
    heat: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    sheets: list[tuple[str, str]]


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
    sheets = read_figures(method.run.folder, names)
    return RobustnessView(
        method.label,
        build_robustness_charts(summary, explainers),
        tables.build_heat_tables(summary, quantities),
        tables.list_corruption_errors(summary),
        [(_describe_sheet(name), build_data_url(compress_figure(picture))) for name, picture in sheets.items()],
    )


def _describe_sheet(sheet: str) -> str:
    level, _, explainer = sheet.removeprefix("robustness/level_").removesuffix(".png").partition("_")
    return f"level {level}" + (f", maps of {explainer}" if explainer else ", images")
