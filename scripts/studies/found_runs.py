"""The runs that a part left behind, and the numbers in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from seewhy.core.errors import UserError
from seewhy.metrics.similarity import compute_spearman
from seewhy.report.runs import Run, read_record, read_run
from seewhy.runs.attribution_files import read_attribution
from seewhy.statistics.intervals import Bounds, compute_mean_intervals
from seewhy.statistics.summary import summarise_metrics


class Mean(NamedTuple):
    """The mean of finite values and its 95 % interval; low and high are NaN where there is none."""

    mean: float
    low: float
    high: float
    n: int


def records(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """(folder, run.json) of every run in and below a folder, sorted."""
    return [(path.parent, read_record(path)) for path in sorted(folder.rglob("run.json"))]


def runs(folder: Path) -> list[Run]:
    """The completed runs that explained images, sorted by folder."""
    return [read_run(place, record) for place, record in records(folder) if record["status"] == "completed"]


def run_of(folder: Path, explainer: str = "", *overrides: str, target: str = "") -> Run:
    """The one run of an explainer, with these overrides and this target policy (empty: any). UserError otherwise."""
    found = [
        run
        for run in runs(folder)
        if explainer in ("", run.explainer)
        and target in ("", run.record["explainer"]["target"])
        and set(overrides) <= set(run.record["overrides"])
    ]
    if len(found) != 1:
        wanted = ", ".join(filter(None, (explainer, target, *overrides)))
        raise UserError(f"{folder} holds {len(found)} completed runs with {wanted or 'anything'}, not one")
    return found[0]


def read_parameter(run: Run, key: str) -> str:
    """A setting among the parameters of a run's explainer. UserError where they do not say it."""
    words = dict(part.split("=", 1) for part in str(run.record["explainer"]["parameters"]).split(", ") if "=" in part)
    if key not in words:
        raise UserError(f"{run.folder} does not say the {key} of its explainer")
    return words[key]


def metric_values(run: Run, metric: str) -> pd.Series[float]:
    """The values of a metric by image, sorted. UserError where the run has none."""
    chosen = run.metrics[run.metrics["metric"] == metric].set_index("image")["value"].sort_index()
    if chosen.empty:
        raise UserError(f"{run.folder} holds no value of {metric}")
    return chosen.astype(float)


def metric_mean(run: Run, metric: str, seed: int = 0) -> Mean:
    """Mean and interval of a metric over the images of a run, with the spread of its random networks."""
    columns = [metric, *run.facts[metric].draws] if metric in run.facts else [metric]
    table = run.metrics[run.metrics["metric"].isin(columns)]
    if metric not in set(table["metric"]):
        raise UserError(f"{run.folder} holds no value of {metric}")
    (row,) = summarise_metrics(table, run.facts, seed).to_dict("records")
    return Mean(row["mean"], row["low"], row["high"], row["n"])


def mean(sample: Iterable[float], seed: int = 0, bounds: Bounds | None = None) -> Mean:
    """Mean and interval of the finite values of a quantity with these bounds; UserError where there is none."""
    finite = np.array([value for value in sample if np.isfinite(value)], dtype=np.float64)
    if not finite.size:
        raise UserError("there is no finite value to take the mean of")
    (interval,) = compute_mean_intervals([finite], seed, bounds=bounds)
    return Mean(float(finite.mean()), interval.low, interval.high, len(finite))


def share(flags: Iterable[bool]) -> Mean:
    """Share of the true ones and Wilson's interval; UserError where there is none to count."""
    values = np.array([float(flag) for flag in flags])
    if not values.size:
        raise UserError("there is nothing to take the share of")
    (interval,) = compute_mean_intervals([values], 0, [(0, 1)])
    return Mean(float(values.mean()), interval.low, interval.high, len(values))


def maps(run: Run) -> Mapping[str, NDArray[np.float32]]:
    """The attribution maps by image, in the order of the images' names."""
    return {name: read_attribution(run.folder, str(name)).numpy() for name in run.predictions.index}


def rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Spearman's rank correlation of two maps; NaN where one is constant."""
    return float(compute_spearman(*(torch.from_numpy(each).reshape(1, -1) for each in (one, other))))
