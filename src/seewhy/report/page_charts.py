"""The charts of a page, drawn from curves.csv and robustness_summary.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from seewhy.curve_figure import mean_curve, mean_line
from seewhy.report.svg_chart import Chart, Line
from seewhy.robustness.curves import drawn
from seewhy.robustness.summary import CLEAN, by_level


def curve_charts(tables: Mapping[str, pd.DataFrame], controls: Sequence[str], seed: int = 0) -> list[Chart]:
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
                lines.append(Line(label, number, *(one.tolist() for one in mean_curve(part, seed))))
            else:
                shares, mean = mean_line(part)
                lines.append(Line(label, number, shares.tolist(), mean.tolist(), quiet=label in controls))
        charts.append(Chart(name.replace("_", " ").replace("/", " / "), "share of the pixels", lines))
    return charts


def robustness_charts(summary: pd.DataFrame, explainers: Sequence[str]) -> list[Chart]:
    """One chart per corruption: accuracy, confidence and the stability of the maps over the levels, with 95 % bands."""
    quantities = drawn(list(summary["quantity"].unique()), explainers)
    table = by_level(summary[summary["quantity"].isin(list(quantities))])
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
