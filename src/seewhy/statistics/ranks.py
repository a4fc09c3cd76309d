"""Average ranks of explainers over images, and how far apart they must be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from seewhy.statistics.tests import ALPHA, note_too_few


@dataclass(frozen=True)
class Ranks:
    """Explainers from best to worst with their average rank over the n images where all have a value; 1 is best."""

    explainers: tuple[str, ...]
    average: tuple[float, ...]
    n: int
    p: float
    """Friedman's test of equal ranks; NaN where it cannot be made."""
    critical_difference: float
    """Nemenyi's: two average ranks that are closer are not told apart; NaN where the test cannot be made."""
    note: str

    def groups(self) -> list[tuple[int, int]]:
        """(first, last) positions of the longest rows of explainers that are not told apart, best first."""
        found: list[tuple[int, int]] = []
        for first, start in enumerate(self.average):
            last = max(
                i for i, rank in enumerate(self.average) if i == first or rank - start < self.critical_difference
            )
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found


@cache
def compute_critical_difference(explainers: int, images: int) -> float:
    """q sqrt(k (k + 1) / (6 n)) for k explainers and n images, q the 95 % point of the studentized range over sqrt(2).

    Nemenyi's test as in Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006.
    """
    q = float(stats.studentized_range.ppf(1 - ALPHA, explainers, np.inf)) / 2**0.5
    return q * (explainers * (explainers + 1) / (6 * images)) ** 0.5


def rank_explainers(values: pd.DataFrame, better: Literal["higher", "lower"]) -> Ranks:
    """Rank the columns of `values` [images, explainers] on every image (ties share the mean rank) and test the ranks.

    An explainer without any value is left out, and so is an image on which one of the others has none; the note says so.
    """
    present = values.dropna(axis=1, how="all")
    complete = present.dropna().sort_index(axis=1)
    places = stats.rankdata(-complete if better == "higher" else complete, axis=1)
    n, count = complete.shape
    average = places.mean(axis=0) if n else np.full(count, np.nan)
    order = np.argsort(average, kind="stable")
    notes = [f"{name} has no value" for name in values.columns if name not in present]
    if n < len(values):
        notes.append(f"ranks over the {n} of {len(values)} images where every explainer has a value")
    p, reason = _friedman(places)
    known = not np.isnan(p)
    return Ranks(
        tuple(str(complete.columns[place]) for place in order),
        tuple(float(average[place]) for place in order),
        n,
        p,
        compute_critical_difference(count, n) if known else float("nan"),
        "; ".join([*notes, *filter(None, [reason])]),
    )


def _friedman(places: NDArray[np.float64]) -> tuple[float, str]:
    """(p of Friedman's test on ranks [images, explainers], what a reader must know)."""
    n, count = places.shape
    if count < 3:
        return float("nan"), "a test of ranks needs three explainers"
    if note_too_few(n):
        return float("nan"), note_too_few(n)
    if (places == places[:, :1]).all():
        return 1.0, "all explainers are tied on every image"
    p = float(stats.friedmanchisquare(*places.T).pvalue)
    return p, f"n={n}: Friedman's p is rough" if n <= 10 else ""
