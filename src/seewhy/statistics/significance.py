"""When a difference between two explainers on the same images is more than chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ALPHA = 0.05
FEWEST = 6
"""With five pairs even five wins have p = 2 / 2**5 = 0.0625."""


def too_few(n: int) -> str:
    """The note where n pairs cannot reach p < 0.05; empty where they can."""
    return f"n={n}: too few for a test" if n < FEWEST else ""


def out_of_reach(n: int, comparisons: int) -> str:
    """The note where Holm's correction for so many comparisons puts p < 0.05 out of the reach of n pairs."""
    if n < FEWEST or 2.0 ** (1 - n) * comparisons < ALPHA:
        return ""
    return f"n={n}: too few for p < {ALPHA:g} after a correction for {comparisons} comparisons"


def wilcoxon(differences: NDArray[np.float64]) -> float:
    """The two-sided p of `scipy.stats.wilcoxon` for paired differences [n]: exact up to 50 pairs where none are tied.

    Zero differences are dropped; where all are zero p is 1; with less than six pairs p is NaN.

    Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1945.
    """
    if too_few(len(differences)):
        return float("nan")
    moved = differences[differences != 0]
    return float(stats.wilcoxon(np.sort(moved)).pvalue) if len(moved) else 1.0


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
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
