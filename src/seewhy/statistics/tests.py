"""Which explainers beat the control that knows nothing.

When a difference between two explainers on the same images is more than chance.
Every two explainers on the same images: pairwise.csv.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from seewhy.statistics.intervals import compute_mean_intervals

ALPHA = 0.05
FEWEST = 6
"""With five pairs even five wins have p = 2 / 2**5 = 0.0625."""


def note_too_few(n: int) -> str:
    """The note where n pairs cannot reach p < 0.05; empty where they can."""
    return f"n={n}: too few for a test" if n < FEWEST else ""


def note_out_of_reach(n: int, comparisons: int) -> str:
    """The note where Holm's correction for so many comparisons puts p < 0.05 out of the reach of n pairs."""
    if n < FEWEST or 2.0 ** (1 - n) * comparisons < ALPHA:
        return ""
    return f"n={n}: too few for p < {ALPHA:g} after a correction for {comparisons} comparisons"


def compute_wilcoxon_p(differences: NDArray[np.float64]) -> float:
    """The two-sided p of `scipy.stats.wilcoxon` for paired differences [n]: exact up to 50 pairs where none are tied.

    Zero differences are dropped; where all are zero p is 1; with less than six pairs p is NaN.

    Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1945.
    """
    if note_too_few(len(differences)):
        return float("nan")
    moved = differences[differences != 0]
    return float(stats.wilcoxon(np.sort(moved)).pvalue) if len(moved) else 1.0


def correct_by_holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """p values [m] corrected for m tests: sorted, p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j)).

    NaN stays NaN and is not counted.

    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.
    """
    corrected = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.maximum.accumulate(np.minimum(1, factors * p[order])) if len(order) else []
    return corrected


PAIR_COLUMNS = ("explainer", "other", "n", "difference", "low", "high", "win_rate", "p", "p_holm", "winner", "note")


def compare_pairs(values: pd.DataFrame, better: Literal["higher", "lower"], seed: int = 0) -> pd.DataFrame:
    """One row per pair of columns of `values` [images, explainers], over the n images where both have a value.

    `difference` is the mean of explainer - other with its 95 % bootstrap interval; `win_rate` the share of images on
    which `explainer` is better, ties counted half (for average drop the Win % of Grad-CAM++); `p` comes from Wilcoxon's
    signed-rank test and `p_holm` from Holm's correction over all rows; `winner` is the explainer with the larger rank sum
    where p_holm < 0.05.
    """
    pairs = list(combinations(sorted(values.columns), 2))
    gaps = [(values[one] - values[other]).dropna().to_numpy() for one, other in pairs]
    p = np.array([compute_wilcoxon_p(gap) for gap in gaps])
    corrected = correct_by_holm(p)
    tests = int((~np.isnan(p)).sum())
    rows = []
    for number, (gap, interval) in enumerate(zip(gaps, compute_mean_intervals(gaps, seed), strict=True)):
        one, other = pairs[number]
        upper = compute_signed_rank_sum(gap) > 0
        notes = (note_too_few(len(gap)) or interval.note, note_out_of_reach(len(gap), tests))
        rows.append(
            {
                "explainer": one,
                "other": other,
                "n": len(gap),
                "difference": np.mean(np.sort(gap)) if len(gap) else np.nan,
                "low": interval.low,
                "high": interval.high,
                "win_rate": compute_win_rate(gap, better),
                "p": p[number],
                "p_holm": corrected[number],
                "winner": (one if upper == (better == "higher") else other) if corrected[number] < ALPHA else "",
                "note": "; ".join(filter(None, notes)),
            }
        )
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))


def compute_win_rate(gap: NDArray[np.float64], better: Literal["higher", "lower"]) -> float:
    """The share of differences [n] on the better side of zero, zeros counted half; NaN without any."""
    if not len(gap):
        return float("nan")
    wins = gap > 0 if better == "higher" else gap < 0
    return float(wins.mean() + (gap == 0).mean() / 2)


def compute_signed_rank_sum(gap: NDArray[np.float64]) -> float:
    """The signed-rank sum of differences [n]: positive where they lean upwards."""
    moved = gap[gap != 0]
    return float((np.sign(moved) * stats.rankdata(np.abs(moved))).sum())


CONTROL_COLUMNS = ("explainer", "p", "beats")


def compare_with_control(values: pd.DataFrame, better: Literal["higher", "lower"], control: str) -> pd.DataFrame:
    """One row per column of `values` [images, explainers]: does it beat the column `control` on the same images?

    `p` is Wilcoxon's two-sided p with Holm's correction over the explainers that are compared with the control. `beats` is
    yes (p < 0.05 and on the better side), no, untested (less than six images with both values) or control.
    """
    others = [name for name in sorted(values.columns) if name != control]
    gaps = [(values[name] - values[control]).dropna().to_numpy() for name in others]
    corrected = correct_by_holm(np.array([compute_wilcoxon_p(gap) for gap in gaps]))
    rows: list[dict[str, object]] = [{"explainer": control, "p": np.nan, "beats": "control"}]
    for name, gap, p in zip(others, gaps, corrected, strict=True):
        ahead = compute_signed_rank_sum(gap) > 0 if better == "higher" else compute_signed_rank_sum(gap) < 0
        verdict = "untested" if np.isnan(p) else "yes" if p < ALPHA and ahead else "no"
        rows.append({"explainer": name, "p": p, "beats": verdict})
    return pd.DataFrame(rows, columns=list(CONTROL_COLUMNS)).sort_values("explainer", ignore_index=True)
