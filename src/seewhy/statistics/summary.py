"""Every metric of every explainer in one row: summary.csv, from the tidy table of metric values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from seewhy.core.errors import UserError
from seewhy.core.target_choice import SEPARATOR, name_image
from seewhy.statistics.intervals import Interval, Values, compute_mean_intervals, widen_by_draws
from seewhy.statistics.schema import MetricFact, list_draws

if TYPE_CHECKING:
    pass


COLUMNS = ("image", "explainer", "metric", "value")
"""Of the tidy table: one row per (image, explainer, metric)."""
SUMMARY_COLUMNS = ("explainer", "metric", "n", "failures", "mean", "median", "low", "high", "better", "note")
NO_FACT = MetricFact()


def check_table(table: pd.DataFrame) -> pd.DataFrame:
    """Check the tidy table of metric values.

    Args:
        table: With the columns image, explainer, metric, value, and perhaps variant.

    Returns:
        Text keys, float values and infinities as NaN (a failure), sorted by the keys; a row for each image, which is the
        mean over its targets where several are explained.

    Raises:
        UserError: If a column is missing, a key occurs twice, or a metric stands for two variants.
    """
    if missing := [column for column in COLUMNS if column not in table]:
        raise UserError(f"a table of metrics needs the columns {', '.join(COLUMNS)}; {', '.join(missing)} is missing")
    keys = ["metric", "explainer", "image"]
    checked = table[list(COLUMNS)].astype(dict.fromkeys(keys, str)).astype({"value": np.float64})
    checked["value"] = checked["value"].where(np.isfinite(checked["value"]))
    repeated = checked.duplicated(keys)
    if repeated.any():
        first = checked[repeated].iloc[0]
        where = f"image {first['image']!r}, explainer {first['explainer']!r}, metric {first['metric']!r}"
        raise UserError(f"the table of metrics has two values for {where}; keep one")
    if "variant" in table:
        for metric, variants in table.groupby("metric")["variant"].unique().items():
            if len(variants) > 1:
                pair = f"{variants[0]!r} and {variants[1]!r}"
                raise UserError(f"{metric} stands for two variants, {pair}; name them apart")
    return _average_targets(checked, keys).sort_values(keys, ignore_index=True)


def _average_targets(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The mean of an image over its targets, where several are explained: they are not independent of each other."""
    if not table["image"].str.contains(SEPARATOR, regex=False).any():
        return table
    images = table.assign(image=table["image"].map(name_image))
    averaged: pd.DataFrame = images.groupby(keys, as_index=False).agg({"value": "mean"})
    return averaged[list(COLUMNS)]


def pivot_by_image(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Pivot the values of one metric.

    Args:
        table: As `check_table` returns it.
        metric: A name in its column metric.

    Returns:
        A row per image, a column per explainer, both sorted; NaN marks a failure.
    """
    rows = table[table["metric"] == metric]
    return rows.pivot(index="image", columns="explainer", values="value").sort_index().sort_index(axis=1)


def pivot_draws(table: pd.DataFrame, fact: MetricFact) -> list[pd.DataFrame]:
    """Pivot the values under each random network that a metric's value is the mean of.

    Args:
        table: As `check_table` returns it.
        fact: Of the metric.

    Returns:
        One table of images and explainers per draw, absolute where the metric is; none for a metric without draws.
    """
    draws = [pivot_by_image(table, column) for column in fact.draws]
    return [draw.abs() for draw in draws] if fact.absolute else draws


def summarise_metrics(
    table: pd.DataFrame, facts: Mapping[str, MetricFact] | None = None, seed: int = 0
) -> pd.DataFrame:
    """Summarise every metric of every explainer over the images.

    Args:
        table: With the columns image, explainer, metric, value.
        facts: {metric: fact}; a metric that is not there has no direction, outcomes, draws and bounds.
        seed: Of the bootstrap.

    Returns:
        Per (explainer, metric) mean, median and 95 % interval of the mean [low, high] (`compute_mean_intervals`, widened
        by the spread of the draws, inside of the bounds of the metric). `n` counts the finite values, `failures` the
        others, which no number contains. `better` is higher, lower or none. Rows are sorted by metric and explainer and do
        not depend on the order of the table; columns that hold single draws have none.

    Raises:
        UserError: If the table is malformed.
    """
    facts = facts or {}
    checked, hidden = check_table(table), list_draws(facts)
    groups = [
        (str(metric), str(explainer), group["value"].to_numpy())
        for (metric, explainer), group in checked.groupby(["metric", "explainer"])
        if metric not in hidden
    ]
    finite = [values[~np.isnan(values)] for *_, values in groups]
    outcomes = [
        _keep_outcomes(facts.get(metric, NO_FACT).outcomes, values)
        for (metric, *_), values in zip(groups, finite, strict=True)
    ]
    draws = {metric: pivot_draws(checked, fact) for metric, fact in facts.items() if fact.draws}
    images, rows = checked.groupby("explainer")["image"].nunique(), []
    intervals = compute_mean_intervals(finite, seed, outcomes)
    for (metric, explainer, values), defined, interval in zip(groups, finite, intervals, strict=True):
        if metric in draws and len(defined):
            means = [draw[explainer].mean() for draw in draws[metric] if explainer in draw]
            interval = widen_by_draws(interval, float(defined.mean()), means)
        fact = facts.get(metric, NO_FACT)
        row = _summarise(explainer, metric, values, defined, interval.clip(fact.bounds), fact)
        if len(values) < images[explainer]:
            row["note"] = "; ".join(filter(None, (f"on {len(values)} of {images[explainer]} images", row["note"])))
        rows.append(row)
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def summarise_targets(
    table: pd.DataFrame, facts: Mapping[str, MetricFact] | None = None, seed: int = 0
) -> pd.DataFrame | None:
    """Summarise every metric for each target alone, where several targets of an image are explained.

    Args:
        table: As `summarise_metrics` takes it, with the column target_policy: each target as it was written.
        facts: {metric: fact}.
        seed: Of the bootstrap.

    Returns:
        The rows of `summarise_metrics` for one target after the other, the column target first; of `labels` an image is the
        mean over its labels. None where there is one target.
    """
    policies = list(dict.fromkeys(table["target_policy"]))
    if len(policies) < 2:
        return None
    parts = []
    for policy in policies:
        part = summarise_metrics(table[table["target_policy"] == policy], facts, seed)
        part.insert(0, "target", policy)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _keep_outcomes(outcomes: tuple[float, float] | None, values: Values) -> tuple[float, float] | None:
    """None where the values are means over several targets, which lie between the two outcomes."""
    return outcomes if outcomes is None or np.isin(values, outcomes).all() else None


def _summarise(
    explainer: str, metric: str, values: Values, defined: Values, interval: Interval, fact: MetricFact
) -> dict[str, Any]:
    failures = len(values) - len(defined)
    return {
        "explainer": explainer,
        "metric": metric,
        "n": len(defined),
        "failures": failures,
        "mean": np.mean(np.sort(defined)) if len(defined) else np.nan,
        "median": np.median(defined) if len(defined) else np.nan,
        "low": interval.low,
        "high": interval.high,
        "better": fact.better or "none",
        "note": "; ".join(filter(None, (interval.note, f"{failures} missing" if failures else ""))),
    }
