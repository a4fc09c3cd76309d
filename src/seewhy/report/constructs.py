"""What the scores of a comparison measure: mean ranks, which exist inside one construct alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from seewhy.metrics.base import CONSTRUCTS
from seewhy.statistics.intervals import compute_mean_intervals
from seewhy.statistics.ranks import Ranks
from seewhy.statistics.schema import MetricFact

UNSTATED = "construct not recorded"
"""The title of scores whose runs, of an earlier version, do not say what they measure; they have no mean rank."""


@dataclass(frozen=True)
class ConstructRanks:
    """The scores of one construct, such as faithfulness, and the explainers in the order of their mean rank in it.

    Args:
        title: The construct.
        metrics: With a direction; those that count first.
        counted: Metrics whose average ranks the mean rank is over: of the forms of a score one, which ranks every
            explainer.
        reasons: {metric: why it does not count}.
        mean_ranks: {explainer: mean rank}, best first; NaN where nothing counts.
        intervals: {explainer: both ends of the 95 % interval of its mean rank, over the images that every counted metric
            ranks}; NaN where there is none.
    """

    title: str
    metrics: tuple[str, ...]
    counted: tuple[str, ...]
    reasons: dict[str, str]
    mean_ranks: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def column(self) -> str:
        """The name of the mean rank in tables."""
        return f"mean_rank_{self.title}"

    @property
    def explainers(self) -> list[str]:
        """Labels, the best mean rank first."""
        return list(self.mean_ranks)

    @property
    def is_ranked(self) -> bool:
        """Whether there is a mean rank."""
        return bool(self.counted)

    def describe(self) -> str:
        """Say what the mean rank is over, and why other scores are not in it.

        Returns:
            One or two sentences.
        """
        if not self.metrics:
            return ""
        names = ", ".join(_write_name(metric) for metric in self.counted)
        words = f"Mean rank over {names}." if self.counted else "No mean rank."
        grouped: dict[str, list[str]] = {}
        for metric, reason in self.reasons.items():
            grouped.setdefault(reason, []).append(_write_name(metric))
        left_out = "; ".join(f"{', '.join(metrics)} ({reason})" for reason, metrics in grouped.items())
        return f"{words} Not in it: {left_out}." if left_out else words


def rank_by_construct(
    ranks: Mapping[str, Ranks], facts: Mapping[str, MetricFact], explainers: Sequence[str], seed: int = 0
) -> list[ConstructRanks]:
    """Rank the explainers by the scores of each construct.

    Args:
        ranks: Of every metric with a direction.
        facts: Of these metrics.
        explainers: Labels of all explainers.
        seed: Of the bootstrap.

    Returns:
        One for each construct that was measured, in the order of `CONSTRUCTS`; last the scores without one.
    """
    names = {facts[metric].construct for metric in ranks}
    order = [*(name for name in CONSTRUCTS if name in names), *sorted(names - {*CONSTRUCTS, ""})]
    order += [""] if "" in names else []
    return [_rank_construct(name, ranks, facts, explainers, seed) for name in order]


def _rank_construct(
    construct: str, ranks: Mapping[str, Ranks], facts: Mapping[str, MetricFact], explainers: Sequence[str], seed: int
) -> ConstructRanks:
    metrics = sorted(metric for metric in ranks if facts[metric].construct == construct)
    reasons = {
        metric: reason for metric in metrics if (reason := _refuse_rank(ranks[metric], facts[metric], explainers))
    }
    scores: dict[str, str] = {}
    for metric in metrics:
        score = facts[metric].variant_of or metric
        if metric not in reasons and (score not in scores or metric == score):
            scores[score] = metric
    for metric in metrics:
        score = facts[metric].variant_of or metric
        if metric not in reasons and metric != scores[score]:
            reasons[metric] = f"another form of {_write_name(scores[score])}"
    counted = sorted(scores.values())
    averages = [dict(zip(ranks[metric].explainers, ranks[metric].average, strict=True)) for metric in counted]
    means = pd.DataFrame(averages, columns=sorted(explainers), dtype=float).mean().sort_values(kind="stable")
    return ConstructRanks(
        construct or UNSTATED,
        (*counted, *(metric for metric in metrics if metric not in counted)),
        tuple(counted),
        {metric: reasons[metric] for metric in metrics if metric in reasons},
        {str(name): float(value) for name, value in means.items()},
        _compute_intervals([ranks[metric].by_image for metric in counted], list(means.index), seed),
    )


def _compute_intervals(
    tables: Sequence[pd.DataFrame], names: Sequence[str], seed: int
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each mean rank over the images of all tables of ranks."""
    if not tables or not all(len(table) for table in tables):
        return dict.fromkeys(names, (math.nan, math.nan))
    images = set.intersection(*(set(table.index) for table in tables))
    rows = [table.loc[sorted(images), list(names)].to_numpy(float) for table in tables]
    intervals = compute_mean_intervals(list(np.mean(rows, axis=0).T), seed, bounds=(1, len(names)))
    return {name: (interval.low, interval.high) for name, interval in zip(names, intervals, strict=True)}


def _refuse_rank(ranks: Ranks, fact: MetricFact, explainers: Sequence[str]) -> str:
    """Why a metric cannot count; empty where it can."""
    if not fact.construct:
        return "its runs do not record what it measures"
    if not fact.in_mean_rank:
        return "no ranking of methods, see its definition"
    ranked = {name for name, average in zip(ranks.explainers, ranks.average, strict=True) if math.isfinite(average)}
    if missing := [name for name in explainers if name not in ranked]:
        return f"no value for {', '.join(missing[:3])}" if len(missing) < len(explainers) else "no value"
    return ""


def _write_name(metric: str) -> str:
    return metric.replace("_", " ")
