"""Every metric of every explainer in one row: summary.csv."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from seewhy.metric_facts import MetricFact
from seewhy.statistics.interval import mean_intervals
from seewhy.statistics.tidy import check_table

COLUMNS = ("explainer", "metric", "n", "failures", "mean", "median", "low", "high", "better", "note")
NOTHING = MetricFact()


def summarise(table: pd.DataFrame, facts: Mapping[str, MetricFact] | None = None, seed: int = 0) -> pd.DataFrame:
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
    for (metric, explainer, values), kept, interval in zip(groups, finite, mean_intervals(finite, seed), strict=True):
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
    return pd.DataFrame(rows, columns=list(COLUMNS))
