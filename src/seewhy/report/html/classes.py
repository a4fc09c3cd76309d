"""The true classes of a page: accuracy, confusions, mean scores, and images whose scores stand out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from seewhy.report.comparison import Comparison
from seewhy.statistics.schema import ARROWS
from seewhy.statistics.summary import check_table, pivot_by_image

SCORES = 3
"""Scores with a column in the table of classes."""
FENCE = 1.5
"""Quartile ranges beyond the quartiles from which on a score is an outlier (Tukey)."""
ENOUGH = 8
"""Images that quartiles need."""
CONFUSIONS = 3


@dataclass(frozen=True)
class ClassTable:
    """The true classes of the images of one model.

    Args:
        columns: (metric, arrow) of the mean scores.
        rows: The least accurate class first; of each its label, n, accuracy, mean probability of the prediction, confusions
            (predicted class and number), mean scores and outliers (image, metric, value).
        methods: Whose scores are averaged.
    """

    columns: list[tuple[str, str]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)


def build_class_table(comparison: Comparison, predictions: pd.DataFrame) -> ClassTable:
    """Build the table of true classes.

    Args:
        comparison: Of the explainers of one model.
        predictions: A row for each image.

    Returns:
        The table; without rows where no class is known.
    """
    known = predictions[predictions["correct"].isin(["yes", "no"])]
    metrics = [metric for construct in comparison.constructs for metric in construct.counted][:SCORES]
    control = comparison.leaderboard["control"]
    methods = [name for name in comparison.explainers if not control[name]] or list(comparison.explainers)
    table = check_table(comparison.joined.table)
    scores = {metric: pivot_by_image(table, metric).reindex(columns=methods).mean(axis=1) for metric in metrics}
    outliers = [each for metric, values in scores.items() for each in _find_outliers(metric, values)]
    rows = []
    for label, group in known.groupby("label"):
        wrong = group[group["correct"] == "no"]["predicted"].value_counts()
        chances = pd.to_numeric(group["probability"], errors="coerce")
        rows.append(
            {
                "label": str(label),
                "n": len(group),
                "accuracy": float((group["correct"] == "yes").mean()),
                "probability": float(chances.mean()) if chances.notna().any() else math.nan,
                "confused": [(str(name), int(count)) for name, count in wrong.items()],
                "scores": [float(values.reindex(group.index).mean()) for values in scores.values()],
                "outliers": [each for each in outliers if each[0] in group.index],
            }
        )
    columns = [(metric, ARROWS[comparison.joined.facts[metric].better]) for metric in metrics]
    return ClassTable(columns, sorted(rows, key=lambda row: (row["accuracy"], -row["n"], row["label"])), methods)


def _find_outliers(metric: str, values: pd.Series) -> list[tuple[str, str, float]]:
    """(image, metric, value) of the images beyond the fences, the furthest first."""
    known = values.dropna()
    if len(known) < ENOUGH:
        return []
    low, high = known.quantile(0.25), known.quantile(0.75)
    reach = FENCE * (high - low)
    beyond = known[(known < low - reach) | (known > high + reach)]
    order = (beyond - known.median()).abs().sort_values(ascending=False, kind="stable").index
    return [(str(image), metric, float(beyond[image])) for image in order]
