"""leaderboard.csv of a report as a table of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from studies.found_runs import Mean, metric_mean, runs
from studies.render import interval


def means_by_explainer(folder: Path, metrics: Sequence[str]) -> dict[str, dict[str, Mean]]:
    """metric -> explainer -> mean with interval, for the runs of a sweep in their order."""
    found = runs(folder)
    return {metric: {run.explainer: metric_mean(run, metric) for run in found} for metric in metrics}


def leaderboard_rows(report: Path, metrics: Mapping[str, str], digits: int = 3) -> list[dict[str, str]]:
    """A row per explainer in the order of the report: each metric (by its heading) with interval and verdict."""
    board = pd.read_csv(report / "leaderboard.csv")
    rows = []
    for _, line in board.iterrows():
        row = {"explainer": f"`{line['explainer']}`"}
        for metric, heading in metrics.items():
            found = Mean(float(line[metric]), float(line[f"{metric}_low"]), float(line[f"{metric}_high"]), 0)
            row[heading] = interval(found, digits) + _verdict(str(line[f"{metric}_beats_random"]))
        rows.append(row)
    return rows


def not_better(report: Path, metric: str) -> list[str]:
    """The explainers that do not beat `random` in a metric, or were measured on too few images to tell."""
    board = pd.read_csv(report / "leaderboard.csv")
    return [f"`{name}`" for name in board.loc[board[f"{metric}_beats_random"].isin(["no", "untested"]), "explainer"]]


def smallest_detectable(report: Path, metric: str, names: Sequence[str]) -> float:
    """The largest of the differences that would have told each of these explainers from `random`; NaN without a test."""
    pairs = pd.read_csv(report / "pairwise.csv")
    pairs = pairs[(pairs["metric"] == metric) & (pairs[["explainer", "other"]] == "random").any(axis=1)]
    other = pairs["explainer"].where(pairs["explainer"] != "random", pairs["other"])
    return float(pairs.loc[other.isin([name.strip("`") for name in names]), "detectable"].max())


def _verdict(word: str) -> str:
    return {"no": " (n.s.)", "untested": " (untested)"}.get(word, "")
