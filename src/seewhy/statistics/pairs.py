"""Every two explainers on the same images: pairwise.csv."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from seewhy.statistics.interval import mean_intervals
from seewhy.statistics.significance import ALPHA, holm, out_of_reach, too_few, wilcoxon

COLUMNS = ("explainer", "other", "n", "difference", "low", "high", "win_rate", "p", "p_holm", "winner", "note")


def compare_pairs(values: pd.DataFrame, better: Literal["higher", "lower"], seed: int = 0) -> pd.DataFrame:
    """One row per pair of columns of `values` [images, explainers], over the n images where both have a value.

    `difference` is the mean of explainer - other with its 95 % bootstrap interval; `win_rate` the share of images on
    which `explainer` is better, ties counted half (for average drop the Win % of Grad-CAM++); `p` comes from Wilcoxon's
    signed-rank test and `p_holm` from Holm's correction over all rows; `winner` is the explainer with the larger rank sum
    where p_holm < 0.05.
    """
    pairs = list(combinations(sorted(values.columns), 2))
    gaps = [(values[one] - values[other]).dropna().to_numpy() for one, other in pairs]
    p = np.array([wilcoxon(gap) for gap in gaps])
    corrected = holm(p)
    tests = int((~np.isnan(p)).sum())
    rows = []
    for number, (gap, interval) in enumerate(zip(gaps, mean_intervals(gaps, seed), strict=True)):
        one, other = pairs[number]
        upper = leaning(gap) > 0
        notes = (too_few(len(gap)) or interval.note, out_of_reach(len(gap), tests))
        rows.append(
            {
                "explainer": one,
                "other": other,
                "n": len(gap),
                "difference": np.mean(np.sort(gap)) if len(gap) else np.nan,
                "low": interval.low,
                "high": interval.high,
                "win_rate": win_rate(gap, better),
                "p": p[number],
                "p_holm": corrected[number],
                "winner": (one if upper == (better == "higher") else other) if corrected[number] < ALPHA else "",
                "note": "; ".join(filter(None, notes)),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def win_rate(gap: NDArray[np.float64], better: Literal["higher", "lower"]) -> float:
    """The share of differences [n] on the better side of zero, zeros counted half; NaN without any."""
    if not len(gap):
        return float("nan")
    wins = gap > 0 if better == "higher" else gap < 0
    return float(wins.mean() + (gap == 0).mean() / 2)


def leaning(gap: NDArray[np.float64]) -> float:
    """The signed-rank sum of differences [n]: positive where they lean upwards."""
    moved = gap[gap != 0]
    return float((np.sign(moved) * stats.rankdata(np.abs(moved))).sum())
