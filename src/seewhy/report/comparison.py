"""All numbers of a comparison of explainers on one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pandas as pd

from seewhy.report.joining import JoinedRuns
from seewhy.statistics.ranks import Ranks, rank_explainers
from seewhy.statistics.schema import Direction
from seewhy.statistics.summary import check_table, pivot_by_image, summarise_metrics
from seewhy.statistics.tests import compare_pairs, compare_with_control


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; explainers stand in the order of `leaderboard`."""

    joined: JoinedRuns
    summary: pd.DataFrame
    """`summarise` of every metric, also of those without a direction"""
    pairwise: pd.DataFrame
    """`compare_pairs` of every metric with a direction, in the column metric"""
    verdicts: pd.DataFrame
    """`against_control` of every metric with a direction, in the column metric; empty without a control"""
    ranks: dict[str, Ranks]
    leaderboard: pd.DataFrame
    """by explainer, best mean rank first; columns as in leaderboard.csv"""

    def mean(self, explainer: str, metric: str) -> tuple[float, float, float]:
        """Mean and both ends of its interval; NaN where there is none."""
        mean, low, high = (float(self.leaderboard[f"{metric}{end}"][explainer]) for end in ("", "_low", "_high"))
        return mean, low, high

    def beats(self, explainer: str, metric: str) -> str:
        """yes, no, untested, control, or nothing."""
        return str(self.leaderboard.loc[explainer, f"{metric}_beats_random"])

    def best(self, metric: str) -> list[str]:
        """The explainers with the best mean."""
        means = self.leaderboard[metric]
        top = means.max() if self.joined.facts[metric].better == "higher" else means.min()
        return [str(name) for name in means.index[means == top]]


def compare_runs(joined: JoinedRuns, seed: int = 0) -> Comparison:
    """Summary, paired comparisons, ranks and control of one model's explainers, and the leaderboard out of them."""
    table = check_table(joined.table)
    directions: dict[str, Direction] = {name: fact.better for name, fact in joined.facts.items() if fact.better}
    pairs, verdicts, ranks = [], [], {}
    for metric, better in directions.items():
        assert better is not None
        values = pivot_by_image(table, metric)
        pairs.append(_under(metric, compare_pairs(values, better, seed)))
        ranks[metric] = rank_explainers(values, better)
        if joined.control in values:
            verdicts.append(_under(metric, compare_with_control(values, better, cast(str, joined.control))))
    summary = summarise_metrics(joined.table, joined.facts, seed)
    empty = pd.DataFrame(columns=["metric", "explainer", "p", "beats"])
    judged = pd.concat(verdicts, ignore_index=True) if verdicts else empty
    paired = pd.concat(pairs, ignore_index=True) if pairs else empty
    return Comparison(joined, summary, paired, judged, ranks, _leaderboard(joined, summary, judged, ranks))


def _under(metric: str, found: pd.DataFrame) -> pd.DataFrame:
    found.insert(0, "metric", metric)
    return found


def _leaderboard(
    joined: JoinedRuns, summary: pd.DataFrame, verdicts: pd.DataFrame, ranks: dict[str, Ranks]
) -> pd.DataFrame:
    """A row per explainer: mean_rank, cost, and per metric with a direction its mean, interval, rank and verdict.

    `mean_rank` is the mean of the average ranks in the metrics in which every explainer is ranked.
    """
    board = joined.explainers[["control", "passes", "seconds"]].copy()
    shared = [dict(zip(it.explainers, it.average, strict=True)) for it in ranks.values()]
    whole = pd.DataFrame([it for it in shared if len(it) == len(board)], columns=board.index, dtype=float)
    board.insert(0, "mean_rank", whole.mean())
    for metric, found in ranks.items():
        cells = summary[summary["metric"] == metric].set_index("explainer")
        said = verdicts[verdicts["metric"] == metric].set_index("explainer")
        board[metric] = cells["mean"]
        board[f"{metric}_low"], board[f"{metric}_high"] = cells["low"], cells["high"]
        board[f"{metric}_rank"] = pd.Series(dict(zip(found.explainers, found.average, strict=True)), dtype=float)
        board[f"{metric}_p_random"] = said["p"].astype(float)
        board[f"{metric}_beats_random"] = said["beats"].astype(object).reindex(board.index).fillna("")
    return board.sort_values("mean_rank", kind="stable")
