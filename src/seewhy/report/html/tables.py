"""The tables of a page; every number comes from a `Comparison` or a summary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from seewhy.analyses.robustness.summary import CLEAN, OVER_LEVELS, select_levels
from seewhy.plots.charts import build_value_scale
from seewhy.report.comparison import Comparison
from seewhy.report.constructs import ConstructRanks
from seewhy.report.leaderboard import find_coverage, format_value, write_rank
from seewhy.statistics.schema import ARROWS

WIDE = 6
"""Columns of a leaderboard; of a construct with more scores those in no mean rank stand in a table that unfolds."""


def build_boards(comparison: Comparison) -> list[dict[str, Any]]:
    """Build the leaderboard of each construct, each cell with its interval as a bar.

    Args:
        comparison: Of the explainers of one model.

    Returns:
        Per construct its title and what its mean rank is over, columns of metrics with a direction and how many of them are
        shown at once, rows of explainers, the verdicts that occur, whether there is a mean rank.
    """
    return [_build_board(comparison, construct) for construct in comparison.constructs]


def _build_board(comparison: Comparison, construct: ConstructRanks) -> dict[str, Any]:
    metrics, names = construct.metrics, construct.explainers
    facts = comparison.joined.facts
    columns = [{"name": name, "arrow": ARROWS[facts[name].better], "better": facts[name].better} for name in metrics]
    cells = {metric: _build_column(comparison, metric, names) for metric in metrics}
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "control": bool(comparison.leaderboard["control"][name]),
            "mean_rank": rank,
            "ends": construct.intervals.get(name, (math.nan, math.nan)),
            "cells": [cells[metric][name] for metric in metrics],
        }
        for name, rank in construct.mean_ranks.items()
    ]
    return {
        "title": construct.title,
        "words": construct.describe(),
        "evidence": comparison.describe_evidence(construct),
        "columns": columns,
        "shown": len(columns) if len(columns) <= WIDE else min(max(1, len(construct.counted)), WIDE),
        "rows": rows,
        "verdicts": {cell["beats"] for row in rows for cell in row["cells"]},
        "ranked": construct.is_ranked,
    }


def _build_column(comparison: Comparison, metric: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    means = {name: comparison.get_mean(name, metric) for name in names}
    scale = build_value_scale([value for triple in means.values() for value in triple], 0, 100)
    control, best = comparison.joined.control, comparison.list_leaders(metric)
    zero = means[control][0] if control in means else math.nan
    covered = find_coverage(comparison, metric)
    cells = {}
    for name, (mean, low, high) in means.items():
        measured = math.isfinite(mean)
        ends = (low, high) if math.isfinite(low) else (mean, mean)
        cells[name] = {
            "mean": mean,
            "low": low,
            "high": high,
            "text": format_value(mean) if measured else "missing",
            "interval": f"{format_value(low)} to {format_value(high)}" if math.isfinite(low) else "",
            "beats": comparison.get_verdict(name, metric),
            "best": name in best,
            "coverage": covered.get(name, math.nan),
            "bar": [round(scale(value), 2) for value in (*ends, mean)] if measured else None,
            "control": round(scale(zero), 2) if math.isfinite(zero) else None,
        }
    return cells


def build_scores(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Build the rows of summary.csv with their numbers as text.

    Args:
        summary: `summarise_metrics`.

    Returns:
        A row per metric and explainer.
    """
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
    """Build a table of paired comparisons per metric.

    Args:
        comparison: Of the explainers of one model.

    Returns:
        Per metric, with its construct, and pair the mean of the row's explainer less that of the column's with the verdict
        of its test, and the share of images on which the former is better.
    """
    tables = []
    constructs = {metric: construct for construct in comparison.constructs for metric in construct.metrics}
    for metric, construct in constructs.items():
        pairs = comparison.pairwise[comparison.pairwise["metric"] == metric]
        cells: dict[tuple[str, str], dict[str, Any]] = {}
        for row in pairs.to_dict("records"):
            first, other, wins = row["explainer"], row["other"], row["win_rate"]
            both = {key: row[key] for key in ("n", "winner", "test", "p_wilcoxon_holm", "detectable", "n_needed")}
            both["p"] = row["p_holm"]
            cells[first, other] = {**both, "wins": wins, "difference": row["difference"]}
            cells[other, first] = {**both, "wins": 1 - wins, "difference": -row["difference"]}
        if cells:
            fact = comparison.joined.facts[metric]
            notes = sorted({part for note in pairs["note"] if note for part in str(note).split("; ")})
            head = {"metric": metric, "construct": construct.title, "arrow": ARROWS[fact.better]}
            families = comparison.list_families(metric)
            tables.append({**head, "names": construct.explainers, "cells": cells, "notes": notes, "families": families})
    return tables


def build_rank_tables(comparison: Comparison) -> list[dict[str, Any]]:
    """Build the average ranks of each metric, with Friedman's test, construct by construct.

    Args:
        comparison: Of the explainers of one model.

    Returns:
        A table per construct with metrics that rank two explainers: its title, rows of explainers with their mean rank, and
        a column per metric.
    """
    tables, board = [], comparison.leaderboard
    for construct in comparison.constructs:
        columns = [
            {
                "metric": metric,
                "average": dict(zip(ranks.explainers, ranks.average, strict=True)),
                "p": ranks.p,
                "n": ranks.n,
                "note": ranks.note,
            }
            for metric in construct.metrics
            if len((ranks := comparison.ranks[metric]).explainers) > 1
        ]
        if columns:
            rows = [
                {"name": name, "mean_rank": write_rank(construct, name), "control": bool(board["control"][name])}
                for name in construct.mean_ranks
            ]
            head = {"title": construct.title, "words": construct.describe(), "ranked": construct.is_ranked}
            tables.append({**head, "rows": rows, "columns": columns})
    return tables


def build_heat_tables(summary: pd.DataFrame, quantities: dict[str, str]) -> list[dict[str, Any]]:
    """Build a table of corruptions x levels per quantity, the clean image first.

    Args:
        summary: robustness_summary.csv.
        quantities: {quantity: words}.

    Returns:
        A table per quantity.
    """
    table, tables = select_levels(summary), []
    levels = sorted({int(level) for level in table["level"]})
    names = [str(name) for name in table["corruption"].unique() if name != CLEAN]
    for quantity, words in quantities.items():
        values = table[table["quantity"] == quantity].set_index(["corruption", "level"])["value"].to_dict()
        clean = values.get((CLEAN, 0))
        rows = [(name, [clean if level == 0 else values.get((name, level)) for level in levels]) for name in names]
        tables.append({"quantity": quantity, "words": words, "levels": levels, "rows": rows})
    return tables


def list_corruption_errors(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """List the errors over all levels.

    Args:
        summary: robustness_summary.csv.

    Returns:
        A row per corruption; the mean over corruptions last.
    """
    quantities = ("error", "relative_error", "corruption_error", "relative_corruption_error")
    rows = summary[(summary["level"] == OVER_LEVELS) & summary["quantity"].isin(quantities)]
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]
