"""The tables of a page; every number comes from a `Comparison` or a summary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from seewhy.analyses.robustness.summary import CLEAN, OVER_LEVELS, select_levels
from seewhy.plots.charts import build_value_scale
from seewhy.report.comparison import Comparison
from seewhy.report.terminal_tables import format_value
from seewhy.statistics.schema import ARROWS


def build_board(comparison: Comparison) -> dict[str, Any]:
    """The leaderboard: columns of metrics with a direction, rows of explainers, each cell with its interval as a bar."""
    metrics, names = list(comparison.ranks), [str(name) for name in comparison.leaderboard.index]
    columns = [
        {
            "name": name,
            "arrow": ARROWS[comparison.joined.facts[name].better],
            "better": comparison.joined.facts[name].better,
        }
        for name in metrics
    ]
    cells = {metric: _column(comparison, metric, names) for metric in metrics}
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "control": bool(comparison.leaderboard["control"][name]),
            "mean_rank": float(comparison.leaderboard["mean_rank"][name]),
            "cells": [cells[metric][name] for metric in metrics],
        }
        for name in names
    ]
    said = {cell["beats"] for row in rows for cell in row["cells"]}
    return {
        "columns": columns,
        "rows": rows,
        "said": said,
        "ranked": any(math.isfinite(row["mean_rank"]) for row in rows),
    }


def _column(comparison: Comparison, metric: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    found = {name: comparison.get_mean(name, metric) for name in names}
    scale = build_value_scale([value for three in found.values() for value in three], 0, 100)
    control, best = comparison.joined.control, comparison.list_best(metric)
    zero = found[control][0] if control in found else math.nan
    cells = {}
    for name, (mean, low, high) in found.items():
        known = math.isfinite(mean)
        ends = (low, high) if math.isfinite(low) else (mean, mean)
        cells[name] = {
            "mean": mean,
            "low": low,
            "high": high,
            "text": format_value(mean) if known else "no value",
            "interval": f"{format_value(low)} to {format_value(high)}" if math.isfinite(low) else "",
            "beats": comparison.get_verdict(name, metric),
            "best": name in best,
            "bar": [round(scale(value), 2) for value in (*ends, mean)] if known else None,
            "control": round(scale(zero), 2) if math.isfinite(zero) else None,
        }
    return cells


def build_scores(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """summary.csv, a row per metric and explainer."""
    arrows: dict[str, str] = {direction or "none": arrow for direction, arrow in ARROWS.items()}
    rows = []
    for record in summary.to_dict("records"):
        row = {str(key): value for key, value in record.items()}
        text = {
            key: "" if math.isnan(row[key]) else format_value(row[key]) for key in ("mean", "median", "low", "high")
        }
        rows.append({**row, "arrow": arrows[row["better"]], "text": text})
    return rows


def build_pair_tables(comparison: Comparison) -> list[dict[str, Any]]:
    """Per metric the share of images on which the row's explainer is better than the column's, and the test's verdict."""
    names, tables = [str(name) for name in comparison.leaderboard.index], []
    for metric in comparison.ranks:
        part = comparison.pairwise[comparison.pairwise["metric"] == metric]
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for row in part.to_dict("records"):
            one, other, wins = row["explainer"], row["other"], row["win_rate"]
            both = {"p": row["p_holm"], "n": row["n"], "winner": row["winner"]}
            found[one, other] = {**both, "wins": wins, "difference": row["difference"]}
            found[other, one] = {**both, "wins": 1 - wins, "difference": -row["difference"]}
        if found:
            fact = comparison.joined.facts[metric]
            notes = sorted({note for note in part["note"] if note})
            tables.append(
                {"metric": metric, "arrow": ARROWS[fact.better], "names": names, "cells": found, "notes": notes}
            )
    return tables


def build_rank_table(comparison: Comparison) -> list[dict[str, Any]]:
    """Per metric the average ranks, Friedman's test and the critical difference."""
    return [
        {
            "metric": metric,
            "average": dict(zip(ranks.explainers, ranks.average, strict=True)),
            "p": ranks.p,
            "critical": ranks.critical_difference,
            "n": ranks.n,
            "note": ranks.note,
        }
        for metric, ranks in comparison.ranks.items()
        if len(ranks.explainers) > 1
    ]


def build_heat_tables(summary: pd.DataFrame, quantities: dict[str, str]) -> list[dict[str, Any]]:
    """Per quantity a table of corruptions x levels out of robustness_summary.csv, the clean image first."""
    table, found = select_levels(summary), []
    levels = sorted({int(level) for level in table["level"]})
    names = [str(name) for name in table["corruption"].unique() if name != CLEAN]
    for quantity, words in quantities.items():
        values = table[table["quantity"] == quantity].set_index(["corruption", "level"])["value"].to_dict()
        clean = values.get((CLEAN, 0))
        rows = [(name, [clean if level == 0 else values.get((name, level)) for level in levels]) for name in names]
        found.append({"quantity": quantity, "words": words, "levels": levels, "rows": rows})
    return found


def list_corruption_errors(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """The errors over all levels, a row per corruption; the mean over corruptions last."""
    wanted = ("error", "relative_error", "corruption_error", "relative_corruption_error")
    part = summary[(summary["level"] == OVER_LEVELS) & summary["quantity"].isin(wanted)]
    return [{str(key): value for key, value in row.items()} for row in part.to_dict("records")]
