"""What a number of images can tell apart: the difference it would find, and the images that a difference needs."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy import optimize, stats

from seewhy.statistics.intervals import Values

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
