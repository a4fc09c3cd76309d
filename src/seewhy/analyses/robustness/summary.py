"""Means with intervals, and corruption errors, from one row per image, corruption and level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seewhy.core.errors import UserError
from seewhy.statistics.intervals import compute_mean_intervals

COLUMNS = ("corruption", "level", "quantity", "mean", "low", "high", "n", "note")
WORDS = ("image", "corruption", "level", "label", "predicted", "attacked_class")
CLEAN = "clean"
OVER_LEVELS = "mean"
"""Stands for a level where a quantity is averaged over all levels, and for a corruption where over all of those."""


def summarise(rows: Sequence[Mapping[str, Any]], reference: pd.DataFrame | None = None, seed: int = 0) -> pd.DataFrame:
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

    Returns:
        Columns corruption, level, quantity, mean, low, high (95 % interval), n (images) and note.
    """
    table = pd.DataFrame(rows).rename(columns={"correct": "accuracy"})
    quantities = [column for column in table.columns if column not in WORDS]
    samples: list[tuple[str, Any, str, pd.Series[float]]] = []
    for (corruption, level), rows_of_corruption in table.groupby(["corruption", "level"], sort=False):
        samples += [(str(corruption), level, quantity, rows_of_corruption[quantity]) for quantity in quantities]
    corrupted = table[table.corruption != CLEAN]
    for corruption, rows_of_corruption in corrupted.groupby("corruption", sort=False):
        means = rows_of_corruption.groupby("image", sort=False)[quantities].mean()
        samples += [(str(corruption), OVER_LEVELS, quantity, means[quantity]) for quantity in quantities]
    if "accuracy" in quantities and len(corrupted):
        samples += _errors(table, corrupted, reference)
    return _with_intervals(samples, seed)


def _errors(
    table: pd.DataFrame, corrupted: pd.DataFrame, reference: pd.DataFrame | None
) -> list[tuple[str, Any, str, pd.Series[float]]]:
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
        samples += [(str(name), OVER_LEVELS, quantity, values[name]) for name in values.columns]
        samples.append((OVER_LEVELS, OVER_LEVELS, quantity, values.mean(axis=1)))
    return samples


def _with_intervals(entries: list[tuple[str, Any, str, pd.Series[float]]], seed: int) -> pd.DataFrame:
    samples = [np.asarray(values.dropna(), np.float64) for *_, values in entries]
    samples = [sample[np.isfinite(sample)] for sample in samples]
    intervals = compute_mean_intervals(samples, seed)
    rows = [
        (corruption, level, quantity, sample.mean(), interval.low, interval.high, len(sample), interval.note)
        for (corruption, level, quantity, _), sample, interval in zip(entries, samples, intervals, strict=True)
        if len(sample)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def select_levels(summary: pd.DataFrame) -> pd.DataFrame:
    """Select the rows of single levels.

    Args:
        summary: Table that `summarise` made.

    Returns:
        Its rows with the level as a number and the mean as `value`.
    """
    single = summary[[level != OVER_LEVELS for level in summary.level]]
    return single.assign(level=single.level.astype(int), value=single["mean"].astype(float))


def read_means(summary: pd.DataFrame) -> dict[tuple[str, int, str], float]:
    """{(corruption, level, quantity): mean} of the single levels."""
    table = select_levels(summary)
    keys = zip(table.corruption.tolist(), table.level.tolist(), table.quantity.tolist(), strict=True)
    return dict(zip(keys, table.value.tolist(), strict=True))


def average_over_corruptions(summary: pd.DataFrame, quantities: Iterable[str]) -> dict[str, float]:
    """Average quantities over all corruptions and levels, for the row by which runs are compared.

    Args:
        summary: Of `summarise`.
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
