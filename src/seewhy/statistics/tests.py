"""When a difference between two explainers on the same images is more than chance, and what n could have told apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from seewhy.core.words import count_noun
from seewhy.statistics.intervals import (
    Bounds,
    Interval,
    Values,
    compute_mean_intervals,
    find_difference_bounds,
    widen_by_draws,
)

LEVEL = 0.05
POWER = 0.8
SURE = 20.0
"""A noncentrality at which a test of any number of differences has more than that power."""
LARGE = 1000
"""From this many differences on, Student's t is as good as normal."""


def compute_detectable_difference(differences: Values) -> float:
    """Compute the smallest mean difference that as many images would have found.

    delta = lambda s / sqrt(n), lambda being the noncentrality at which the two-sided paired t test at 5 % has a power of
    80 %; one comparison, before any correction for several.

    Cohen: Statistical power analysis for the behavioral sciences, 1988, chapter 2.

    Args:
        differences: Paired, [n].

    Returns:
        The difference, in the unit of the metric; NaN below three differences and where all are equal.
    """
    if len(differences) < 3 or np.ptp(differences) == 0:
        return math.nan
    return _find_noncentrality(len(differences)) * float(np.sort(differences).std(ddof=1)) / len(differences) ** 0.5


def compute_needed_images(differences: Values) -> float:
    """Compute how many images would find the mean difference that was seen, if it and the spread are as they seem.

    The smallest n at which the two-sided paired t test at 5 % has a power of 80 %; one comparison, before any correction.

    Args:
        differences: Paired, [n].

    Returns:
        n; NaN below three differences, where all are equal, and where their mean is zero.
    """
    if len(differences) < 3 or np.ptp(differences) == 0:
        return math.nan
    ordered = np.sort(differences)
    effect = abs(float(ordered.mean())) / float(ordered.std(ddof=1))
    if effect < 1e-6:
        return math.nan
    n = max(2, math.ceil((_find_noncentrality(None) / effect) ** 2))
    while n < LARGE and _compute_power(effect * n**0.5, n - 1) < POWER:
        n += 1
    return float(n)


@cache
def _find_noncentrality(n: int | None) -> float:
    """The noncentrality of the t test of n differences with the wanted power; of the normal test without n."""
    if n is None or n >= LARGE:
        return float(stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER))
    return float(optimize.brentq(lambda shift: _compute_power(shift, n - 1) - POWER, 1, SURE))


def _compute_power(noncentrality: float, freedom: int) -> float:
    """The power of the two-sided t test at 5 %: the square of its statistic has a noncentral F distribution."""
    limit = stats.t.ppf(1 - LEVEL / 2, freedom)
    return float(stats.ncf.sf(limit**2, 1, freedom, min(noncentrality, SURE) ** 2))


EXACT = 16
"""Up to this many differences that are not zero all sign flips are counted."""
FLIPS = 49_999
"""Flips that are drawn for more differences."""
ROUNDING = 1e-12
"""Sums closer than this share of the sum of magnitudes count as equal."""
TABLE = 2_000_000
"""Signs in memory at once."""


def compute_sign_flip_p(samples: Sequence[Values], seed: int = 0) -> NDArray[np.float64]:
    """Compute the two-sided p of the sign-flip permutation test of the mean of each sample of paired differences.

    Under the hypothesis of no difference every d_i is as likely as -d_i, and p is the share of the 2^n sign vectors with
    |sum s_i d_i| >= |sum d_i|: all of them up to 16 differences that are not zero, otherwise p = (1 + count) / (1 + 49,999)
    over drawn ones. Samples of one length share their signs; neither the order of the differences nor the company of other
    samples nor the direction of the subtraction changes p.

    Fisher: The design of experiments, 1935, section 21. Phipson, Smyth: Permutation p-values should never be zero,
    Statistical Applications in Genetics and Molecular Biology 2010.

    Args:
        samples: Finite differences [n] each, one per independent unit.
        seed: Of the drawn signs.

    Returns:
        p of each sample; 1 where all differences are zero, NaN where there are none.
    """
    p = np.full(len(samples), np.nan)
    pending: dict[int, list[int]] = {}
    magnitudes: dict[int, Values] = {}
    limits = np.zeros(len(samples))
    for number, sample in enumerate(samples):
        differences = np.asarray(sample, dtype=np.float64)
        if not len(differences):
            continue
        largest = np.abs(differences).max()
        scaled = np.sort(differences / largest) if largest else differences  # tiny and huge ones have no trouble
        sizes = np.sort(np.abs(scaled[scaled != 0]))
        magnitudes[number] = sizes
        limits[number] = abs(scaled.sum()) - ROUNDING * sizes.sum()
        if len(sizes) <= EXACT:
            p[number] = float((np.abs(_sum_all_flips(sizes)) >= limits[number]).mean())
        else:
            pending.setdefault(len(sizes), []).append(number)
    for size, numbers in pending.items():
        stack, least = np.stack([magnitudes[number] for number in numbers]), limits[numbers]
        counts = sum((np.abs(signs @ stack.T) >= least).sum(0) for signs in _draw_signs(size, seed))
        p[numbers] = (1 + counts) / (1 + FLIPS)
    return p


def name_test(sample: Values) -> str:
    """Name the test that `compute_sign_flip_p` makes of a sample: exact, or with how many drawn flips."""
    moved = int(np.count_nonzero(sample))
    return "sign-flip permutation of the mean, " + ("exact" if moved <= EXACT else f"{FLIPS:,} flips")


def compute_least_p(n: int) -> float:
    """Compute the smallest p that n differences can have."""
    return 2.0 ** (1 - n) if n <= EXACT else 1 / (1 + FLIPS)


def _sum_all_flips(sizes: Values) -> Values:
    """The sums under all sign vectors whose first sign is positive; the others are their negatives."""
    sums = sizes[:1] if len(sizes) else np.zeros(1)
    for size in sizes[1:]:
        sums = np.concatenate([sums + size, sums - size])
    return sums


def _draw_signs(size: int, seed: int) -> Iterator[Values]:
    """Sign vectors [flips, size] of 1 and -1, a table at a time."""
    generator = np.random.default_rng(seed)
    batch = max(1, TABLE // size)
    for start in range(0, FLIPS, batch):
        rows = min(batch, FLIPS - start)
        yield 2 * generator.integers(0, 2, (rows, size), dtype=np.int8).astype(np.float64) - 1


ALPHA = 0.05
FEWEST = 6
"""Pairs for a test: with five even five wins have p = 2 / 2**5 = 0.0625."""
PAIR_COLUMNS = (
    *("explainer", "other", "n", "difference", "low", "high", "p", "p_holm", "winner", "test"),
    *("win_rate", "p_wilcoxon", "p_wilcoxon_holm", "detectable", "n_needed", "family", "note"),
)
CONTROL_COLUMNS = ("explainer", "p", "beats", "test")
POWER_NOTE = "detectable, n_needed: 80 % power at a two-sided 5 %, one comparison"


def compare_pairs(
    values: pd.DataFrame,
    better: Literal["higher", "lower"],
    seed: int = 0,
    draws: Sequence[pd.DataFrame] = (),
    control: str | None = None,
    bounds: Bounds | None = None,
) -> pd.DataFrame:
    """Compare every two explainers on the same images.

    Each pair belongs to one family of tests, which the column `family` names, and has one verdict: the comparisons with the
    control are corrected for their number, as in `compare_with_control`, and all other pairs for theirs. Without a control
    all pairs are one family.

    Args:
        values: A row per image, a column per explainer; NaN marks a failure.
        better: Which end of the metric is better.
        seed: Of the bootstrap and of the sign flips.
        draws: The values under each random network, for a metric that is their mean.
        control: The column of the control; None: there is none.
        bounds: The least and the largest value of the metric; None: it could be anything.

    Returns:
        One row per pair over the n images where both have a value. `difference` is the mean of explainer - other with its
        95 % interval, and `p` tests it: the sign-flip permutation test that `test` names, over the images, with these
        random networks; `p_holm` is Holm's correction over its family, and `winner` the explainer with the better mean where
        p_holm < 0.05. `win_rate` is the share of images on which `explainer` is better, ties counted half (for average drop
        the Win % of Grad-CAM++), beside Wilcoxon's signed-rank test, `p_wilcoxon` and `p_wilcoxon_holm`. Where a test has
        no winner, `detectable` is the smallest difference that n images would have found and `n_needed` the number of
        images that the seen difference needs (80 % power at a two-sided 5 %, one comparison).
    """
    pairs = list(combinations(sorted(values.columns), 2))
    gaps = [(values[first] - values[second]).dropna() for first, second in pairs]
    samples = [gap.to_numpy() for gap in gaps]
    p, wilcoxon = _test_means(samples, seed), np.array([compute_wilcoxon_p(sample) for sample in samples])
    with_control = np.array([control in pair for pair in pairs], dtype=bool)
    corrected, ranked = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    sizes, names = np.zeros(len(pairs), dtype=int), np.full(len(pairs), "", dtype=object)
    for family in (with_control, ~with_control):
        corrected[family], ranked[family] = correct_by_holm(p[family]), correct_by_holm(wilcoxon[family])
        sizes[family] = (~np.isnan(p[family])).sum()
        names[family] = name_family(int(sizes[family].max(initial=0)), control, bool(family is with_control))
    rows = []
    for number, interval in enumerate(compute_mean_intervals(samples, seed)):
        (explainer, other), gap = pairs[number], gaps[number]
        if draws and len(gap):
            means = [(draw[explainer] - draw[other])[gap.index].mean() for draw in draws]
            interval = widen_by_draws(interval, float(gap.mean()), means)
        row = _describe_gap(samples[number], interval.clip(find_difference_bounds(bounds)), better)
        ahead = (row["difference"] > 0) == (better == "higher")
        row |= {"explainer": explainer, "other": other, "p": p[number], "p_holm": corrected[number]}
        row |= {"p_wilcoxon": wilcoxon[number], "p_wilcoxon_holm": ranked[number]}
        row["test"] = "" if np.isnan(p[number]) else name_test(samples[number])
        row["winner"] = (explainer if ahead else other) if corrected[number] < ALPHA else ""
        row["family"] = names[number]
        notes = [row["note"], note_out_of_reach(len(gap), int(sizes[number]))]
        if not row["winner"] and not np.isnan(p[number]):
            row["detectable"] = compute_detectable_difference(samples[number])
            row["n_needed"] = np.maximum(compute_needed_images(samples[number]), FEWEST)
            notes.append("" if np.isnan(row["detectable"]) else POWER_NOTE)
        row["note"] = "; ".join(filter(None, notes))
        rows.append(row)
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))


def name_family(tests: int, control: str | None, with_control: bool) -> str:
    """Name a family of tests: the pairs of explainers that share a correction for their number.

    Args:
        tests: Pairs that were tested.
        control: The control; None: all pairs are one family.
        with_control: Whether they are the comparisons with the control.

    Returns:
        Such as `5 comparisons with random`; empty where nothing was tested.
    """
    if not tests:
        return ""
    if with_control:
        return f"{count_noun(tests, 'comparison')} with {control}"
    return count_noun(tests, "other pair" if control else "pair")


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
    """Note that so few pairs cannot reach p < 0.05.

    Args:
        n: Pairs.

    Returns:
        A phrase; empty where they can.
    """
    return f"n={n}: too few for a test" if n < FEWEST else ""


def note_out_of_reach(n: int, comparisons: int) -> str:
    """Note that Holm's correction for so many comparisons puts p < 0.05 out of the reach of n pairs."""
    if n < FEWEST or compute_least_p(n) * comparisons < ALPHA:
        return ""
    return f"n={n}: too few for p < {ALPHA:g} after a correction for {comparisons} comparisons"
