"""What a comparison says of its metrics: do they agree, do their rankings last, and what the removers leave of the score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from seewhy.core.cells import quote_cell
from seewhy.core.files import RunFolder
from seewhy.metrics.faithfulness.removers import REMOVERS
from seewhy.report.comparison import Comparison
from seewhy.report.verdict import find_control
from seewhy.statistics.agreement import AGREEMENT_COLUMNS, RankStability, measure_rank_stability, tabulate_agreement
from seewhy.statistics.conformal import SIZES, summarise_regions
from seewhy.statistics.intervals import compute_mean_intervals
from seewhy.statistics.summary import NO_FACT, check_table, pivot_by_image

STABILITY_COLUMNS = ("metric", *RankStability._fields, "tau_of_removers", "r_oms", "r_oms_low", "r_oms_high")


@dataclass(frozen=True)
class Agreement:
    """What the comparison of one model says of its metrics.

    Args:
        model: Its label.
        pairs: Kendall's tau between the rankings of two metrics, `AGREEMENT_COLUMNS`.
        ranks: What one image less changes in the ranking of each metric, `STABILITY_COLUMNS`.
        regions: The calibrated sufficient regions, `seewhy.statistics.conformal.REGION_COLUMNS`.
    """

    model: str
    pairs: pd.DataFrame
    ranks: pd.DataFrame
    regions: pd.DataFrame


def measure_agreement(comparison: Comparison, seed: int = 0) -> Agreement:
    """Measure the agreement of the metrics about the methods that are no controls, and calibrate sufficient regions.

    `tau_of_removers` is the mean of tau between the ranking under a remover and those under the other removers. `r_oms` is
    the remover's own score, the mean area under the curve of pixels that are removed in random order, which the control
    `random` gives for nothing: half of its `morf` and `lerf`.

    Args:
        comparison: Of the explainers of one model.
        seed: Of the bootstrap and of the split.

    Returns:
        The tables; without rows where there is nothing to say.
    """
    table, joined = check_table(comparison.joined.table), comparison.joined
    methods = [name for name in comparison.explainers if not joined.explainers["control"][name]]
    better = {metric: joined.facts[metric].better for metric in comparison.ranks}
    means = {metric: {name: comparison.get_mean(name, metric)[0] for name in methods} for metric in comparison.ranks}
    pairs = tabulate_agreement(means, {metric: end for metric, end in better.items() if end is not None})
    pairs = pairs[pairs["tau"].notna()].reset_index(drop=True)
    rows = []
    for metric, end in better.items():
        values = pivot_by_image(table, metric)
        values = values[[name for name in methods if name in values]]
        stability = measure_rank_stability(values, end) if end is not None else None
        row: dict[str, Any] = {"metric": metric} | (stability._asdict() if stability is not None else {})
        row |= _score_remover(comparison, table, pairs, metric, seed)
        rows += [row] if len(row) > 1 else []
    regions = summarise_regions(pivot_by_image(table, SIZES), seed) if SIZES in comparison.ranks else pd.DataFrame()
    return Agreement(joined.model, pairs, pd.DataFrame(rows, columns=list(STABILITY_COLUMNS)), regions)


def _score_remover(
    comparison: Comparison, table: pd.DataFrame, pairs: pd.DataFrame, metric: str, seed: int
) -> dict[str, float]:
    panel = [f"srg_{remover}" for remover in REMOVERS]
    if metric not in panel:
        return {}
    others = pairs[
        ((pairs["metric"] == metric) & pairs["other"].isin(panel))
        | ((pairs["other"] == metric) & pairs["metric"].isin(panel))
    ]
    scores = {"tau_of_removers": float(others["tau"].mean())} if len(others) else {}
    control = find_control(comparison, "random")
    morf, lerf = (pivot_by_image(table, f"{metric}_{area}") for area in ("morf", "lerf"))
    if control in morf and control in lerf:
        areas = morf[control] + lerf[control]
        halves = (areas / 2).dropna().to_numpy(float)
        bounds = comparison.joined.facts.get(f"{metric}_morf", NO_FACT).bounds
        interval = compute_mean_intervals([halves], seed, bounds=bounds)[0] if len(halves) else None
        if interval is not None:
            scores |= {"r_oms": float(halves.mean()), "r_oms_low": interval.low, "r_oms_high": interval.high}
    return scores


def write_agreement(out: RunFolder, agreements: Sequence[Agreement]) -> None:
    """Write agreement.csv, rank_stability.csv and sufficient_region.csv with a column `model`, those that have rows.

    Args:
        out: Where they are written.
        agreements: Of each model.
    """
    for name, key in (("agreement", "pairs"), ("rank_stability", "ranks"), ("sufficient_region", "regions")):
        tables = [getattr(each, key).assign(model=each.model) for each in agreements if len(getattr(each, key))]
        if tables:
            table = pd.concat(tables, ignore_index=True)
            table = table[["model", *table.columns.drop("model")]].map(quote_cell)
            out.write_bytes(f"{name}.csv", table.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())


def describe_region(row: pd.Series) -> str:
    """Describe a calibrated region in a sentence.

    Args:
        row: Of `Agreement.regions`.

    Returns:
        Its size, alpha and coverage, or why there is none.
    """
    if not math.isfinite(row["size"]):
        return f"{row['explainer']}: no region, {row['note']}"
    promise = f"the top {100 * row['size']:.3g} % keep the prediction with probability {1 - row['alpha']:g}"
    check = f"{100 * row['covered']:.3g} % of {row['n_held_out']:.0f} held-out images"
    note = f"; {row['note']}" if row["note"] else ""
    return f"{row['explainer']}: {promise} (checked: {check}, [{row['low']:.2f}, {row['high']:.2f}]){note}"


def tabulate_matrix(agreement: Agreement) -> tuple[list[str], list[list[float]]]:
    """Tabulate the taus as a matrix.

    Args:
        agreement: Of one model.

    Returns:
        (metrics, rows of taus, 1 on the diagonal and NaN where there is none).
    """
    columns = AGREEMENT_COLUMNS[:2]
    names = list(dict.fromkeys(str(name) for pair in agreement.pairs[list(columns)].to_numpy() for name in pair))
    taus = {(str(row["metric"]), str(row["other"])): float(row["tau"]) for _, row in agreement.pairs.iterrows()}

    def read(one: str, other: str) -> float:
        return 1.0 if one == other else taus.get((one, other), taus.get((other, one), math.nan))

    return names, [[read(one, other) for other in names] for one in names]
