"""When a difference between two explainers on the same images is more than chance, and which beat the control."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from seewhy.statistics.intervals import Interval, Values, compute_mean_intervals, widen_by_draws
from seewhy.statistics.power import compute_detectable_difference, compute_needed_images
from seewhy.statistics.sign_flips import compute_least_p, compute_sign_flip_p, name_test

ALPHA = 0.05
FEWEST = 6
"""Pairs for a test: with five even five wins have p = 2 / 2**5 = 0.0625."""
PAIR_COLUMNS = (
    *("explainer", "other", "n", "difference", "low", "high", "p", "p_holm", "winner", "test"),
    *("win_rate", "p_wilcoxon", "p_wilcoxon_holm", "detectable", "n_needed", "note"),
)
CONTROL_COLUMNS = ("explainer", "p", "beats", "test")
POWER_NOTE = "detectable, n_needed: 80 % power at a two-sided 5 %, one comparison"


def compare_pairs(
    values: pd.DataFrame, better: Literal["higher", "lower"], seed: int = 0, draws: Sequence[pd.DataFrame] = ()
) -> pd.DataFrame:
    """Compare every two explainers on the same images.

    Args:
        values: A row per image, a column per explainer; NaN marks a failure.
        better: Which end of the metric is better.
        seed: Of the bootstrap and of the sign flips.
        draws: The values under each random network, for a metric that is their mean.

    Returns:
        One row per pair over the n images where both have a value. `difference` is the mean of explainer - other with its
        95 % interval, and `p` tests it: the sign-flip permutation test that `test` names, over the images, with these
        random networks; `p_holm` is Holm's correction over all rows, and `winner` the explainer with the better mean where
        p_holm < 0.05. `win_rate` is the share of images on which `explainer` is better, ties counted half (for average drop
        the Win % of Grad-CAM++), beside Wilcoxon's signed-rank test, `p_wilcoxon` and `p_wilcoxon_holm`. Where a test has
        no winner, `detectable` is the smallest difference that n images would have found and `n_needed` the number of
        images that the seen difference needs (80 % power at a two-sided 5 %, one comparison).
    """
    pairs = list(combinations(sorted(values.columns), 2))
    gaps = [(values[first] - values[second]).dropna() for first, second in pairs]
    samples = [gap.to_numpy() for gap in gaps]
    p, wilcoxon = _test_means(samples, seed), np.array([compute_wilcoxon_p(sample) for sample in samples])
    corrected, ranked, tests = correct_by_holm(p), correct_by_holm(wilcoxon), int((~np.isnan(p)).sum())
    rows = []
    for number, interval in enumerate(compute_mean_intervals(samples, seed)):
        (explainer, other), gap = pairs[number], gaps[number]
        if draws and len(gap):
            means = [(draw[explainer] - draw[other])[gap.index].mean() for draw in draws]
            interval = widen_by_draws(interval, float(gap.mean()), means)
        row = _describe_gap(samples[number], interval, better)
        ahead = (row["difference"] > 0) == (better == "higher")
        row |= {"explainer": explainer, "other": other, "p": p[number], "p_holm": corrected[number]}
        row |= {"p_wilcoxon": wilcoxon[number], "p_wilcoxon_holm": ranked[number]}
        row["test"] = "" if np.isnan(p[number]) else name_test(samples[number])
        row["winner"] = (explainer if ahead else other) if corrected[number] < ALPHA else ""
        notes = [row["note"], note_out_of_reach(len(gap), tests)]
        if not row["winner"] and not np.isnan(p[number]):
            row["detectable"] = compute_detectable_difference(samples[number])
            row["n_needed"] = np.maximum(compute_needed_images(samples[number]), FEWEST)
            notes.append("" if np.isnan(row["detectable"]) else POWER_NOTE)
        row["note"] = "; ".join(filter(None, notes))
        rows.append(row)
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))


def _test_means(samples: Sequence[Values], seed: int) -> NDArray[np.float64]:
    """p of the mean of each sample of differences; NaN where they are too few."""
    p = compute_sign_flip_p(samples, seed)
    return np.where([bool(note_too_few(len(sample))) for sample in samples], np.nan, p)


def _describe_gap(gap: Values, interval: Interval, better: Literal["higher", "lower"]) -> dict[str, Any]:
    return {
        "n": len(gap),
        "difference": np.mean(np.sort(gap)) if len(gap) else np.nan,
        "low": interval.low,
        "high": interval.high,
        "win_rate": compute_win_rate(gap, better),
        "note": note_too_few(len(gap)) or interval.note,
    }


def compare_with_control(
    values: pd.DataFrame, better: Literal["higher", "lower"], control: str, seed: int = 0
) -> pd.DataFrame:
    """Test whether the mean of each explainer beats the control on the same images.

    Args:
        values: A row per image, a column per explainer; NaN marks a failure.
        better: Which end of the metric is better.
        control: The column of the control.
        seed: Of the sign flips.

    Returns:
        One row per explainer. `p` is the two-sided p of the mean difference, from the sign-flip permutation test that
        `test` names, with Holm's correction over the explainers that are compared with the control. `beats` is yes
        (p < 0.05 and on the better side), no, untested (less than six images with both values) or control.
    """
    others = [name for name in sorted(values.columns) if name != control]
    gaps = [(values[name] - values[control]).dropna().to_numpy() for name in others]
    corrected = correct_by_holm(_test_means(gaps, seed))
    rows: list[dict[str, object]] = [{"explainer": control, "p": np.nan, "beats": "control", "test": ""}]
    for name, gap, p in zip(others, gaps, corrected, strict=True):
        lean = float(np.sort(gap).sum())
        ahead = lean > 0 if better == "higher" else lean < 0
        verdict = "untested" if np.isnan(p) else "yes" if p < ALPHA and ahead else "no"
        rows.append({"explainer": name, "p": p, "beats": verdict, "test": "" if np.isnan(p) else name_test(gap)})
    return pd.DataFrame(rows, columns=list(CONTROL_COLUMNS)).sort_values("explainer", ignore_index=True)


def compute_wilcoxon_p(differences: Values) -> float:
    """Compute the two-sided p of Wilcoxon's signed-rank test for paired differences.

    As `scipy.stats.wilcoxon`: exact up to 50 pairs where none are tied; zero differences are dropped, and where all are
    zero p is 1.

    Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1945.

    Args:
        differences: [n].

    Returns:
        p; NaN with less than six pairs.
    """
    if note_too_few(len(differences)):
        return float("nan")
    moved = differences[differences != 0]
    return float(stats.wilcoxon(np.sort(moved)).pvalue) if len(moved) else 1.0


def correct_by_holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct p values for m tests: sorted, p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j)).

    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.

    Args:
        p: [m]; NaN stays NaN and is not counted.

    Returns:
        The corrected values [m] in the same order.
    """
    corrected = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.maximum.accumulate(np.minimum(1, factors * p[order])) if len(order) else []
    return corrected


def compute_win_rate(gap: Values, better: Literal["higher", "lower"]) -> float:
    """Compute the share of differences [n] on the better side of zero, zeros counted half; NaN without any."""
    if not len(gap):
        return float("nan")
    wins = gap > 0 if better == "higher" else gap < 0
    return float(wins.mean() + (gap == 0).mean() / 2)


def note_too_few(n: int) -> str:
    """Note that n pairs cannot reach p < 0.05; empty where they can."""
    return f"n={n}: too few for a test" if n < FEWEST else ""


def note_out_of_reach(n: int, comparisons: int) -> str:
    """Note that Holm's correction for so many comparisons puts p < 0.05 out of the reach of n pairs."""
    if n < FEWEST or compute_least_p(n) * comparisons < ALPHA:
        return ""
    return f"n={n}: too few for p < {ALPHA:g} after a correction for {comparisons} comparisons"
