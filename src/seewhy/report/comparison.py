"""All numbers of a comparison of explainers on one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pandas as pd

from seewhy.report.joining import JoinedRuns
from seewhy.statistics.ranks import Ranks, rank_explainers
from seewhy.statistics.schema import Direction
from seewhy.statistics.summary import check_table, pivot_by_image, pivot_draws, summarise_metrics
from seewhy.statistics.tests import compare_pairs, compare_with_control


@dataclass(frozen=True)
class Comparison:
    """What the runs of one model say about its explainers, which stand in the order of `leaderboard`.

    Args:
        joined: The runs.
        summary: `summarise_metrics` of every metric, also of those without a direction.
        pairwise: `compare_pairs` of every metric with a direction, named in the column metric.
        verdicts: `compare_with_control` of every metric with a direction, named in the column metric; empty without a
            control.
        ranks: Of every metric with a direction.
        leaderboard: By explainer, best mean rank first; columns as in leaderboard.csv.
    """

    joined: JoinedRuns
    summary: pd.DataFrame
    pairwise: pd.DataFrame
    verdicts: pd.DataFrame
    ranks: dict[str, Ranks]
    leaderboard: pd.DataFrame

    @property
    def explainers(self) -> list[str]:
        """Their labels, best mean rank first."""
        return [str(name) for name in self.leaderboard.index]

    def get_mean(self, explainer: str, metric: str) -> tuple[float, float, float]:
        """Return the mean and both ends of its interval; NaN where there is none."""
        mean, low, high = (float(self.leaderboard[f"{metric}{end}"][explainer]) for end in ("", "_low", "_high"))
        return mean, low, high

    def get_verdict(self, explainer: str, metric: str) -> str:
        """Return yes, no, untested, control, or nothing: whether the explainer beats random."""
        return str(self.leaderboard.loc[explainer, f"{metric}_beats_random"])

    def list_best(self, metric: str) -> list[str]:
        """Return the explainers with the best mean."""
        means = self.leaderboard[metric]
        top = means.max() if self.joined.facts[metric].better == "higher" else means.min()
        return [str(name) for name in means.index[means == top]]


def compare_runs(joined: JoinedRuns, seed: int = 0) -> Comparison:
    """Compare the explainers of one model by every metric.

    Args:
        joined: The runs.
        seed: Of the bootstrap.

    Returns:
        Summary, paired comparisons, ranks, verdicts against the control, and the leaderboard that they give.
    """
    table = check_table(joined.table)
    directions: dict[str, Direction] = {name: fact.better for name, fact in joined.facts.items() if fact.better}
    pairs, verdicts, ranks = [], [], {}
    for metric, better in directions.items():
        assert better is not None
        values = pivot_by_image(table, metric)
        draws = pivot_draws(table, joined.facts[metric])
        pairs.append(compare_pairs(values, better, seed, draws).assign(metric=metric))
        ranks[metric] = rank_explainers(values, better)
        if joined.control in values:
            verdict = compare_with_control(values, better, cast(str, joined.control), seed)
            verdicts.append(verdict.assign(metric=metric))
    summary = summarise_metrics(joined.table, joined.facts, seed)
    pairwise, judged = _stack(pairs), _stack(verdicts)
    return Comparison(joined, summary, pairwise, judged, ranks, _build_leaderboard(joined, summary, judged, ranks))


def _stack(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One table with the column metric first; without rows where there is none."""
    if not tables:
        return pd.DataFrame(columns=["metric", "explainer", "p", "beats", "test"])
    stacked = pd.concat(tables, ignore_index=True)
    return stacked[["metric", *stacked.columns.drop("metric")]]


def _build_leaderboard(
    joined: JoinedRuns, summary: pd.DataFrame, verdicts: pd.DataFrame, ranks: dict[str, Ranks]
) -> pd.DataFrame:
    """A row per explainer: mean_rank, cost, and per metric with a direction its mean, interval, rank and verdict.

    `mean_rank` is the mean of the average ranks in the metrics in which every explainer is ranked.
    """
    labels = joined.explainers.index
    averages = [dict(zip(each.explainers, each.average, strict=True)) for each in ranks.values()]
    complete = pd.DataFrame([each for each in averages if len(each) == len(labels)], columns=labels, dtype=float)
    columns = {"mean_rank": complete.mean(), **joined.explainers[["control", "passes", "seconds"]]}
    for metric, average in zip(ranks, averages, strict=True):
        cells = summary[summary["metric"] == metric].set_index("explainer")
        verdict = verdicts[verdicts["metric"] == metric].set_index("explainer")
        columns[metric] = cells["mean"]
        columns[f"{metric}_low"], columns[f"{metric}_high"] = cells["low"], cells["high"]
        columns[f"{metric}_rank"] = pd.Series(average, dtype=float)
        columns[f"{metric}_p_random"] = verdict["p"].astype(float)
        columns[f"{metric}_beats_random"] = verdict["beats"].astype(object).reindex(labels).fillna("")
        columns[f"{metric}_test_random"] = verdict["test"].astype(object).reindex(labels).fillna("")
    return pd.DataFrame(columns, index=labels).sort_values("mean_rank", kind="stable")
