"""The rows that a measured batch adds to the tables of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from seewhy.explanation import Explanation
from seewhy.metrics.curves import kept_curves
from seewhy.metrics.evidence import Evidence


class CurveRow(NamedTuple):
    """One row of curves.csv."""

    image: str
    explainer: str
    curve: str
    share: float
    logit: float
    probability: float


class ScoreRow(NamedTuple):
    """One value of one image."""

    image: str
    explainer: str
    metric: str
    value: float


def curve_rows(evidence: Evidence, explanations: Sequence[Explanation]) -> list[CurveRow]:
    """The perturbation curves that the metrics of a batch asked for."""
    rows = []
    for point in kept_curves(evidence):
        one = explanations[point.image]
        rows.append(CurveRow(one.name, one.explainer, point.curve, point.share, point.logit, point.probability))
    return rows


def score_rows(explanations: Iterable[Explanation]) -> list[ScoreRow]:
    """The metrics of a batch, one value a row."""
    return [
        ScoreRow(one.name, one.explainer, name, value) for one in explanations for name, value in one.metrics.items()
    ]
