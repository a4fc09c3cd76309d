"""The runs that a part left behind, and the numbers in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seewhy.core.errors import UserError
from seewhy.report.runs import Run, read_record, read_run
from seewhy.runs.attribution_files import read_attribution
from seewhy.statistics.intervals import compute_mean_intervals


class Mean(NamedTuple):
    """The mean of finite values and its 95 % bootstrap interval; low and high are NaN where there is none."""

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


def metric_values(run: Run, metric: str) -> pd.Series[float]:
    """The values of a metric by image, sorted. UserError where the run has none."""
    chosen = run.metrics[run.metrics["metric"] == metric].set_index("image")["value"].sort_index()
    if chosen.empty:
        raise UserError(f"{run.folder} holds no value of {metric}")
    return chosen.astype(float)


def mean(sample: Iterable[float], seed: int = 0) -> Mean:
    """Mean and interval of the finite values; UserError where there is none."""
    finite = np.array([value for value in sample if np.isfinite(value)], dtype=np.float64)
    if not finite.size:
        raise UserError("there is no finite value to take the mean of")
    (interval,) = compute_mean_intervals([finite], seed)
    return Mean(float(finite.mean()), interval.low, interval.high, len(finite))


def maps(run: Run) -> Mapping[str, NDArray[np.float32]]:
    """The attribution maps by image, in the order of the images' names."""
    return {name: read_attribution(run.folder, str(name)).numpy() for name in run.predictions.index}


def rank_correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Spearman's rank correlation of two maps; NaN where one is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    first, second = (pd.Series(np.ravel(each)).rank() for each in (one, other))
    return float(first.corr(second))
