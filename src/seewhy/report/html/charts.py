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
    """One chart per perturbation curve, one line per explainer {label: curves.csv}.

    A single explainer has its 95 % band; lines of several would hide behind each other's.
    """
    names = sorted({str(name) for table in tables.values() for name in table["curve"].unique()})
    charts = []
    for name in names:
        parts = {label: table[table["curve"] == name] for label, table in tables.items()}
        lines = []
        for number, (label, part) in enumerate(parts.items()):
            if part.empty:
                continue
            if len(tables) == 1:
                lines.append(Line(label, number, *(one.tolist() for one in compute_mean_curve(part, seed))))
            else:
                shares, mean = compute_mean_line(part)
                lines.append(Line(label, number, shares.tolist(), mean.tolist(), quiet=label in controls))
        charts.append(Chart(name.replace("_", " ").replace("/", " / "), "share of the pixels", lines))
    return charts


def build_robustness_charts(summary: pd.DataFrame, explainers: Sequence[str]) -> list[Chart]:
    """One chart per corruption: accuracy, confidence and the stability of the maps over the levels, with 95 % bands."""
    quantities = select_curve_quantities(list(summary["quantity"].unique()), explainers)
    table = select_levels(summary[summary["quantity"].isin(list(quantities))])
    charts = []
    for corruption in [str(name) for name in table["corruption"].unique() if name != CLEAN]:
        lines = []
        for number, (quantity, words) in enumerate(quantities.items()):
            part = table[table["corruption"].isin([CLEAN, corruption]) & (table["quantity"] == quantity)]
            part = part.sort_values("level")
            level, value, low, high = (part[name].astype(float).tolist() for name in ("level", "value", "low", "high"))
            lines.append(Line(words, number, level, value, low, high))
        charts.append(Chart(corruption.replace("_", " "), "level (0: clean)", lines))
    return charts


@dataclass(frozen=True)
class RobustnessView:
    """The robustness of one run."""

    explainer: str
    charts: list[Chart]
    heat: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    sheets: list[tuple[str, str]]
    """(words, data address)"""


def build_robustness_view(method: Method) -> RobustnessView | None:
    """Charts, tables and sheets of a robustness run; None for any other run."""
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
        [(_words(name), build_data_url(compress_figure(picture))) for name, picture in sheets.items()],
    )


def _words(sheet: str) -> str:
    level, _, explainer = sheet.removeprefix("robustness/level_").removesuffix(".png").partition("_")
    return f"level {level}" + (f", maps of {explainer}" if explainer else ", images")
