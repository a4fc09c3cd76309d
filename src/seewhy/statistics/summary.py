"""Every metric of every explainer in one row: summary.csv.

The tidy table of metric values, one row per (image, explainer, metric).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from seewhy.core.errors import UserError
from seewhy.statistics.intervals import compute_mean_intervals
from seewhy.statistics.schema import MetricFact

COLUMNS = ("image", "explainer", "metric", "value")


def check_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table with text keys, float values and infinities as NaN (a failure), sorted by its keys.

    Raises UserError for a missing column, for a key that occurs twice, and for a metric that stands for two variants.
    """
    if missing := [column for column in COLUMNS if column not in table]:
        raise UserError(f"a table of metrics needs the columns {', '.join(COLUMNS)}; {', '.join(missing)} is missing")
    keys = ["metric", "explainer", "image"]
    checked = table[list(COLUMNS)].astype(dict.fromkeys(keys, str)).astype({"value": np.float64})
    checked["value"] = checked["value"].where(np.isfinite(checked["value"]))
    twice = checked.duplicated(keys)
    if twice.any():
        first = checked[twice].iloc[0]
        where = f"image {first['image']!r}, explainer {first['explainer']!r}, metric {first['metric']!r}"
        raise UserError(f"the table of metrics has two values for {where}; keep one")
    if "variant" in table:
        _check_variants(table)
    return checked.sort_values(keys, ignore_index=True)


def _check_variants(table: pd.DataFrame) -> None:
    for metric, variants in table.groupby("metric")["variant"].unique().items():
        if len(variants) > 1:
            raise UserError(f"{metric} stands for two variants, {variants[0]!r} and {variants[1]!r}; name them apart")


def pivot_by_image(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The values of one metric: a row per image, a column per explainer, both sorted; NaN marks a failure."""
    chosen = table[table["metric"] == metric]
    return chosen.pivot(index="image", columns="explainer", values="value").sort_index().sort_index(axis=1)


SUMMARY_COLUMNS = ("explainer", "metric", "n", "failures", "mean", "median", "low", "high", "better", "note")
NOTHING = MetricFact()


def summarise_metrics(
    table: pd.DataFrame, facts: Mapping[str, MetricFact] | None = None, seed: int = 0
) -> pd.DataFrame:
    """Mean, median and 95 % bootstrap interval of the mean [low, high] per (explainer, metric), over the images.

    `table` has the columns image, explainer, metric, value. `n` counts the finite values, `failures` the others, which no
    number contains. `better` is higher, lower or none (also for a metric that `facts` does not name). Rows are sorted by
    metric and explainer and do not depend on the order of the table. Raises UserError for a malformed table.
    """
    known = facts or {}
    parts = check_table(table).groupby(["metric", "explainer"])
    groups = [(str(metric), str(explainer), part["value"].to_numpy()) for (metric, explainer), part in parts]
    finite = [values[~np.isnan(values)] for *_, values in groups]
    rows = []
    for (metric, explainer, values), kept, interval in zip(
        groups, finite, compute_mean_intervals(finite, seed), strict=True
    ):
        failures = len(values) - len(kept)
        rows.append(
            {
                "explainer": explainer,
                "metric": metric,
                "n": len(kept),
                "failures": failures,
                "mean": np.mean(np.sort(kept)) if len(kept) else np.nan,
                "median": np.median(kept) if len(kept) else np.nan,
                "low": interval.low,
                "high": interval.high,
                "better": known.get(metric, NOTHING).better or "none",
                "note": "; ".join(filter(None, (interval.note, f"{failures} without a value" if failures else ""))),
            }
        )
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
