"""The tidy table of metric values, one row per (image, explainer, metric)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seewhy.errors import UserError

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


def by_image(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The values of one metric: a row per image, a column per explainer, both sorted; NaN marks a failure."""
    chosen = table[table["metric"] == metric]
    return chosen.pivot(index="image", columns="explainer", values="value").sort_index().sort_index(axis=1)
