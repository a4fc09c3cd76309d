"""Average ranks of explainers over images, and whether any differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from seewhy.statistics.tests import note_too_few


@dataclass(frozen=True)
class Ranks:
    """Explainers from best to worst by their average rank over the images where all have a value.

    Args:
        explainers: Best first.
        average: Their average ranks, from 1, the best.
        n: Number of images.
        p: Of Friedman's test of equal ranks; NaN where it cannot be made.
        note: What a reader must know; empty where all is as usual.
        by_image: The ranks on each image, a row per image, a column per explainer.
    """

    explainers: tuple[str, ...]
    average: tuple[float, ...]
    n: int
    p: float
    note: str
    by_image: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False, compare=False)


def rank_explainers(values: pd.DataFrame, better: Literal["higher", "lower"]) -> Ranks:
    """Rank the explainers on every image and test whether their average ranks differ.

    Args:
        values: A row per image, a column per explainer; NaN marks a failure.
        better: Which end of the metric is better.

    Returns:
        Ranks, ties sharing their mean. An explainer without any value is left out, and so is an image on which one of the
        others has none; the note says so.
    """
    present = values.dropna(axis=1, how="all")
    complete = present.dropna().sort_index(axis=1)
    ranks = stats.rankdata(-complete if better == "higher" else complete, axis=1)
    n, count = complete.shape
    average = ranks.mean(axis=0) if n else np.full(count, np.nan)
    order = np.argsort(average, kind="stable")
    notes = [f"{name} has no value" for name in values.columns if name not in present]
    if n < len(values):
        notes.append(f"ranks over the {n} of {len(values)} images where every explainer has a value")
    p, reason = _test_by_friedman(ranks)
    return Ranks(
        tuple(str(complete.columns[position]) for position in order),
        tuple(float(average[position]) for position in order),
        n,
        p,
        "; ".join([*notes, *filter(None, [reason])]),
        pd.DataFrame(ranks, index=complete.index, columns=complete.columns),
    )


def _test_by_friedman(ranks: NDArray[np.float64]) -> tuple[float, str]:
    """(p of Friedman's test on ranks [images, explainers], what a reader must know)."""
    n, count = ranks.shape
    if count < 3:
        return float("nan"), "a test of ranks needs three explainers"
    if note_too_few(n):
        return float("nan"), note_too_few(n)
    if (ranks == ranks[:, :1]).all():
        return 1.0, "all explainers are tied on every image"
    p = float(stats.friedmanchisquare(*ranks.T).pvalue)
    return p, f"only {n} images: Friedman's p is approximate" if n <= 10 else ""
