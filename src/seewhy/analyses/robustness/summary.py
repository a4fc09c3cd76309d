"""Means with intervals, and corruption errors, from one row per image, corruption and level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from seewhy.core.errors import UserError
from seewhy.statistics.intervals import DIFFERENCE, SHARE, Bounds, compute_mean_intervals, widen_by_draws
from seewhy.statistics.schema import MetricFact, list_draws
from seewhy.statistics.summary import NO_FACT

COLUMNS = ("corruption", "level", "quantity", "mean", "low", "high", "n", "note")
WORDS = ("image", "corruption", "level", "label", "predicted", "attacked_class")
TWO_OUTCOMES = ("accuracy", "flip", "attack_success")
"""Quantities that are 0 or 1 for an image and level."""
BOUNDS: dict[str, Bounds] = {
    **dict.fromkeys((*TWO_OUTCOMES, "probability", "clean_probability", "true_probability", "error"), SHARE),
    "relative_error": DIFFERENCE,
    "corruption_error": (0, None),
}
"""Of quantities that are no metric; those of similarities of maps go by the end of their names."""
SIMILARITIES: dict[str, Bounds] = {"_spearman": DIFFERENCE, "_top10": SHARE, "_ssim": DIFFERENCE}
CLEAN = "clean"
OVER_LEVELS = "mean"
"""Stands for a level where a quantity is averaged over all levels, and for a corruption where over all of those."""


class Sample(NamedTuple):
    """One quantity of the images under one corruption and level."""

    corruption: str
    level: Any
    quantity: str
    values: pd.Series[float]
    draws: Sequence[pd.Series[float]] = ()
    """The values under each random network that they are the means of."""


def summarise_robustness(
    rows: Sequence[Mapping[str, Any]],
    reference: pd.DataFrame | None = None,
    seed: int = 0,
    facts: Mapping[str, MetricFact] | None = None,
) -> pd.DataFrame:
    """Average the rows over the images for each corruption, level and quantity.

    Every number of the rows is a quantity; `correct` is called accuracy. Level `mean` averages each image over the
    levels of a corruption, corruption `mean` over all corruptions, which gives the mean corruption error. Errors:
    `error` = 1 - accuracy; `relative_error` = error - clean error; with a reference also `corruption_error` = error /
    reference error and `relative_corruption_error` = relative error / reference relative error, in which 1 is as bad as
    the reference. Hendrycks and Dietterich: Benchmarking neural network robustness, ICLR 2019.

    Args:
        rows: One mapping per image, corruption and level.
        reference: Errors of a reference model, as `read_reference` gives them.
        seed: Seed of the intervals.
        facts: Of the quantities that are metrics, which decide how their intervals are made.

    Returns:
        Columns corruption, level, quantity, mean, low, high (95 % interval), n (images) and note.
    """
    table = pd.DataFrame(rows).rename(columns={"correct": "accuracy"})
    facts = facts or {}
    quantities = [column for column in table.columns if column not in WORDS and column not in list_draws(facts)]
    samples: list[Sample] = []
    for (corruption, level), rows_of_corruption in table.groupby(["corruption", "level"], sort=False):
        samples += [_take(str(corruption), level, each, rows_of_corruption, facts) for each in quantities]
    corrupted = table[table.corruption != CLEAN]
    for corruption, rows_of_corruption in corrupted.groupby("corruption", sort=False):
        samples += [_take(str(corruption), OVER_LEVELS, each, rows_of_corruption, facts) for each in quantities]
    if "accuracy" in quantities and len(corrupted):
        samples += _errors(table, corrupted, reference)
    return _with_intervals(samples, seed, facts)


def _take(corruption: str, level: Any, quantity: str, rows: pd.DataFrame, facts: Mapping[str, MetricFact]) -> Sample:
    """One quantity of some rows; over all levels each image is averaged first."""
    fact = facts.get(quantity, NO_FACT)
    draws = [rows[draw].abs() if fact.absolute else rows[draw] for draw in fact.draws if draw in rows]
    columns = [rows[quantity], *draws]
    if level == OVER_LEVELS:
        columns = [column.groupby(rows.image, sort=False).mean() for column in columns]
    return Sample(corruption, level, quantity, columns[0], columns[1:])


def _errors(table: pd.DataFrame, corrupted: pd.DataFrame, reference: pd.DataFrame | None) -> list[Sample]:
    """Error and relative error of each corruption and of all together, without and with a reference."""
    clean = 1 - table[table.corruption == CLEAN].set_index("image").accuracy
    errors = 1 - corrupted.pivot_table("accuracy", "image", "corruption", sort=False)
    relative = errors.sub(clean, axis=0).dropna(how="all")
    parts = {"error": errors, "relative_error": relative}
    if reference is not None:
        reference_error, base = compute_reference_errors(reference, [str(name) for name in errors.columns])
        parts["corruption_error"] = errors[list(reference_error.index)] / reference_error
        parts["relative_corruption_error"] = relative[list(reference_error.index)] / (reference_error - base)
    samples = []
    for quantity, values in parts.items():
        samples += [Sample(str(name), OVER_LEVELS, quantity, values[name]) for name in values.columns]
        samples.append(Sample(OVER_LEVELS, OVER_LEVELS, quantity, values.mean(axis=1)))
    return samples


def _with_intervals(samples: list[Sample], seed: int, facts: Mapping[str, MetricFact]) -> pd.DataFrame:
    finite = [np.asarray(sample.values[np.isfinite(sample.values)], np.float64) for sample in samples]
    outcomes = [
        (0, 1) if each.quantity in TWO_OUTCOMES else facts.get(each.quantity, NO_FACT).outcomes for each in samples
    ]
    rows = []
    for sample, values, interval in zip(samples, finite, compute_mean_intervals(finite, seed, outcomes), strict=True):
        if not len(values):
            continue
        if sample.draws:
            interval = widen_by_draws(interval, values.mean(), [draw.mean() for draw in sample.draws])
        interval = interval.clip(find_bounds(sample.quantity, facts))
        ends = interval.low, interval.high, len(values), interval.note
        rows.append((sample.corruption, sample.level, sample.quantity, values.mean(), *ends))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def find_bounds(quantity: str, facts: Mapping[str, MetricFact]) -> Bounds | None:
    """Find the least and the largest value of a quantity.

    Args:
        quantity: Its name.
        facts: Of the quantities that are metrics.

    Returns:
        The bounds; None where there are none.
    """
    if quantity in facts:
        return facts[quantity].bounds
    ends = (bounds for end, bounds in SIMILARITIES.items() if quantity.endswith(end))
    return BOUNDS.get(quantity) or next(ends, None)


def select_levels(summary: pd.DataFrame) -> pd.DataFrame:
    """Select the rows of single levels.

    Args:
        summary: Table that `summarise_robustness` made.

    Returns:
        Its rows with the level as a number and the mean as `value`.
    """
    single = summary[[level != OVER_LEVELS for level in summary.level]]
    return single.assign(level=single.level.astype(int), value=single["mean"].astype(float))


def read_means(summary: pd.DataFrame) -> dict[tuple[str, int, str], float]:
    """Read the means of the single levels.

    Args:
        summary: Of `summarise_robustness`.

    Returns:
        {(corruption, level, quantity): mean}.
    """
    table = select_levels(summary)
    keys = zip(table.corruption.tolist(), table.level.tolist(), table.quantity.tolist(), strict=True)
    return dict(zip(keys, table.value.tolist(), strict=True))


def average_over_corruptions(summary: pd.DataFrame, quantities: Iterable[str]) -> dict[str, float]:
    """Average quantities over all corruptions and levels, for the row by which runs are compared.

    Args:
        summary: Of `summarise_robustness`.
        quantities: The quantities that are averaged, such as `accuracy`.

    Returns:
        `average/clean_<quantity>` and `average/corrupted_<quantity>` where there are such values.
    """
    averages = {}
    for quantity in quantities:
        rows = summary[summary.quantity == quantity]
        corrupted = rows[(rows.level == OVER_LEVELS) & ~rows.corruption.isin([CLEAN, OVER_LEVELS])]
        for kind, table in (("clean", rows[rows.corruption == CLEAN]), ("corrupted", corrupted)):
            if len(table):
                averages[f"average/{kind}_{quantity}"] = float(table["mean"].mean())
    return averages


def read_reference(path: str | Path) -> pd.DataFrame:
    """Read the errors of a reference model: a csv, or the robustness_summary.csv of another run.

    Args:
        path: The file.

    Returns:
        Columns corruption, level and error; level 0 is the clean image.

    Raises:
        UserError: The file is missing or lacks these columns.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"reference={path}: there is no such file; give a csv or the robustness_summary.csv of a run")
    table = pd.read_csv(file, dtype={"level": str})
    if {"quantity", "mean"} <= set(table.columns):
        table = table[table.quantity == "accuracy"].assign(error=lambda rows: 1 - rows["mean"])
    if not {"corruption", "level", "error"} <= set(table.columns):
        raise UserError(
            f"reference={path} has the columns {', '.join(table.columns)}; it needs corruption, level, error"
        )
    return table[table.level.str.isdigit()][["corruption", "level", "error"]]


def compute_reference_errors(reference: pd.DataFrame, corruptions: Sequence[str]) -> tuple[pd.Series[float], float]:
    """(the reference's error of each of these corruptions that it knows, averaged over its levels; its clean error)."""
    means = reference[reference.level != "0"].groupby("corruption").error.mean()
    reference_means = means.loc[[name for name in corruptions if name in means.index]]
    clean = reference[reference.level == "0"].error
    if not len(reference_means) or not len(clean):
        raise UserError(
            f"the reference has no clean error (level 0) or none of the corruptions {', '.join(corruptions)}; it has "
            f"{', '.join(reference.corruption.unique())}"
        )
    return reference_means.where(reference_means > 0), float(clean.iloc[0])
