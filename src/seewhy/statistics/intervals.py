"""95 % intervals of means: bootstrap-t, Wilson for two outcomes, clustered by image, widened by the draws of networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Values: TypeAlias = NDArray[np.float64]
Outcomes: TypeAlias = tuple[float, float]
"""The two values that a quantity can take, such as (0, 1) for a hit or (0, 100) for a share in percent."""
Bounds: TypeAlias = tuple[float | None, float | None]
"""The least and the largest value that a quantity can have; None: there is none."""
SHARE: Bounds = (0, 1)
DIFFERENCE: Bounds = (-1, 1)
"""Of two shares or probabilities, or a correlation."""
LEVEL = 0.95
RESAMPLES = 9999
ROUGH = 10
"""Below this many values the interval is called rough."""
FEWEST = 3
"""Below this many values there is no interval."""
FEWEST_RESAMPLED = 5
"""Below this many values resamples are too often alike: Student's t."""
WIDEST = 2.0
"""An end of the bootstrap-t interval is at most this many times as far from the mean as that of Student's t. Where few
values differ from the others, resamples without any of them have no spread, and the bootstrap no end."""
TOGETHER = 500
"""Samples that share one bootstrap."""
TABLE = 2_000_000
"""Counts of resampled values in memory at once."""


class Interval(NamedTuple):
    """A 95 % interval of a mean."""

    low: float
    """NaN where there is no interval."""
    high: float
    """NaN where there is no interval."""
    note: str
    """What a reader must know about it; empty where it is as usual."""

    def clip(self, bounds: Bounds | None) -> Interval:
        """Cut off what lies beyond the values that the quantity can have: its mean is not there, so no coverage is lost.

        Args:
            bounds: Of the quantity; None: it could be anything.

        Returns:
            The interval.
        """
        if bounds is None:
            return self
        low, high = np.clip(self[:2], *bounds).tolist()
        return Interval(low, high, self.note)


def compute_mean_intervals(
    samples: Sequence[Values],
    seed: int = 0,
    outcomes: Sequence[Outcomes | None] | None = None,
    bounds: Bounds | None = None,
) -> list[Interval]:
    """Compute the 95 % interval of the mean of each sample of independent values.

    Bootstrap-t: resampled means are studentised, t* = (m* - m) / s*, and the interval is [m - s t*_0.975,
    m - s t*_0.025] with 9,999 resamples; it follows the skewness of the values, which Student's t and the percentile
    interval miss. No end is more than twice as far from the mean as that of Student's t. With three or four values,
    Student's t. With two outcomes, Wilson's score interval with continuity correction. Fewer than three values have no
    interval, and equal values of a quantity that could be anything one without width. The note says so.

    Samples of one length share their resamples, and sums are exact: neither the order of the values nor the company of
    other samples changes an interval. `scripts/coverage.py` measures how often the intervals cover.

    Efron: Nonparametric standard errors and confidence intervals, Canadian Journal of Statistics 1981. Hall: The
    bootstrap and Edgeworth expansion, 1992. Newcombe: Two-sided confidence intervals for the single proportion,
    Statistics in Medicine 1998.

    Args:
        samples: Finite values [n] each, one per independent unit (see `average_clusters`).
        seed: Of the bootstrap.
        outcomes: For each sample the two values that its quantity can take, or None. A sample with two different values
            counts as such in any case.
        bounds: Of the quantity that all samples have values of; None: it could be anything.

    Returns:
        One interval per sample, inside of the bounds.
    """
    pairs = outcomes or [None] * len(samples)
    ordered = [np.sort(np.asarray(sample, dtype=np.float64)) for sample in samples]
    intervals: dict[int, Interval] = {}
    pending: dict[int, list[int]] = {}
    for number, (values, pair) in enumerate(zip(ordered, pairs, strict=True)):
        simple = _compute_simple(values, pair)
        if simple is None:
            pending.setdefault(len(values), []).append(number)
        else:
            intervals[number] = simple
    for size, numbers in pending.items():
        for start in range(0, len(numbers), TOGETHER):
            group = numbers[start : start + TOGETHER]
            ends = _bootstrap([ordered[number] for number in group], seed)
            intervals |= {number: Interval(*pair, _note_size(size)) for number, pair in zip(group, ends, strict=True)}
    return [intervals[number].clip(bounds) for number in range(len(ordered))]


def average_clusters(values: ArrayLike, clusters: ArrayLike) -> Values:
    """Average the values of each cluster, such as the cells of one image, which are not independent of each other.

    Args:
        values: [n]; NaN and infinite ones are left out.
        clusters: [n], the cluster of each value.

    Returns:
        The mean of each cluster with a finite value, in the order of their names: what an interval is made of.
    """
    cells, names = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    finite = np.isfinite(cells)
    _, number = np.unique(names[finite], return_inverse=True)
    return np.bincount(number, cells[finite]) / np.bincount(number)


def find_difference_bounds(bounds: Bounds | None) -> Bounds | None:
    """Find the bounds of the difference of two values of a quantity.

    Args:
        bounds: Of the quantity; None: it could be anything.

    Returns:
        The bounds; None where an end is open.
    """
    low, high = bounds or (None, None)
    return None if low is None or high is None else (low - high, high - low)


def widen_by_draws(interval: Interval, mean: float, draws: ArrayLike) -> Interval:
    """Widen the interval of a mean over images by the spread of the random networks that all images share.

    low = m - sqrt((m - low)^2 + (t s / sqrt(D))^2), and high likewise, s being the standard deviation of the D draws'
    means and t Student's with D - 1 degrees of freedom: the interval for a new set of images and a new draw.

    Zou, Donner: Construction of confidence limits about effect measures, a general approach, Statistics in Medicine 2008.

    Args:
        interval: Over the images.
        mean: Over images and draws.
        draws: [D], the mean over the images of each draw.

    Returns:
        The wider interval; without a second draw the same with a note.
    """
    values = np.sort(np.asarray(draws, dtype=np.float64))
    if len(values) < 2:
        return interval._replace(note="; ".join(filter(None, [interval.note, "one draw: its spread is not in it"])))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    low, high = (mean + side * float(np.hypot(mean - end, half)) for side, end in ((-1, interval[0]), (1, interval[1])))
    return Interval(low, high, interval.note)


def _compute_simple(values: Values, outcomes: Outcomes | None) -> Interval | None:
    """The interval of sorted values without resampling; None where the bootstrap is called for."""
    size, note = len(values), _note_size(len(values))
    if size < FEWEST:
        return Interval(np.nan, np.nan, f"n={size}: too few for an interval")
    lower, upper = outcomes or (values[0], values[-1])
    if lower < upper and np.isin(values, (lower, upper)).all():
        low, high = (lower + (upper - lower) * share for share in _compute_wilson(int((values == upper).sum()), size))
        return Interval(low, high, note)
    if values[0] == values[-1]:
        return Interval(float(values[0]), float(values[0]), f"all {size} values are equal")
    if size < FEWEST_RESAMPLED:
        half = _compute_half_width(values)
        return Interval(float(values.mean() - half), float(values.mean() + half), note)
    return None


def _note_size(size: int) -> str:
    return f"only {size} images: intervals are approximate" if size < ROUGH else ""


def _compute_wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share with continuity correction, as `scipy.stats.binomtest` gives it."""
    low, high = stats.binomtest(hits, n).proportion_ci(LEVEL, method="wilsoncc")
    return float(low), float(high)


def _compute_deviation(values: Values) -> float:
    """The standard deviation with divisor n, also where squares would be too small for a float."""
    centred = values - values.mean()
    _, exponent = np.frexp(np.abs(centred).max())
    return float(np.ldexp(np.ldexp(centred, -exponent).std(), exponent))


def _compute_half_width(values: Values) -> float:
    """Half the width of Student's t interval."""
    t = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)
    return float(t * _compute_deviation(values) / (len(values) - 1) ** 0.5)


def _bootstrap(samples: Sequence[Values], seed: int) -> Iterator[tuple[float, float]]:
    """Bootstrap-t intervals of equally long samples, all resampled at the same positions."""
    size = len(samples[0])
    scaled = np.array([_scale(values - values.mean()) for values in samples])
    squares = _cut_bits(scaled**2, size)
    tables = [_studentise(counts @ scaled.T / size, counts @ squares.T / size) for counts in _draw_counts(size, seed)]
    tail = round((1 - LEVEL) / 2 * (RESAMPLES + 1))
    for values, studentised in zip(samples, np.sort(np.concatenate(tables), axis=0).T, strict=True):
        mean, deviation, widest = values.mean(), _compute_deviation(values), WIDEST * _compute_half_width(values)
        left, right = deviation * studentised[-tail], deviation * studentised[tail - 1]
        yield float(mean - min(left, widest)), float(mean - max(right, -widest))


def _studentise(means: Values, squares: Values) -> Values:
    """Deviations of resampled means over their standard deviations; infinite where a resample has no spread."""
    variances = squares - means**2
    varied = variances > 1e-9 * squares
    studentised = means / np.sqrt(np.where(varied, variances, 1))
    return np.where(varied, studentised, np.where(means == 0, 0, np.copysign(np.inf, means)))


def _draw_counts(size: int, seed: int) -> Iterator[Values]:
    """How often each value occurs in each resample [resamples, size], a table at a time."""
    generator = np.random.default_rng(seed)
    batch = max(1, TABLE // size)
    for start in range(0, RESAMPLES, batch):
        rows = min(batch, RESAMPLES - start)
        positions = generator.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
        yield np.bincount(positions.ravel(), minlength=size * rows).reshape(rows, size).astype(np.float64)


def _scale(deviations: Values) -> Values:
    """Deviations from the mean scaled to at most 1 by a power of two, so that no square is lost, and cut."""
    _, exponent = np.frexp(np.abs(deviations).max())
    return _cut_bits(np.ldexp(deviations, -exponent), len(deviations))


def _cut_bits(values: Values, size: int) -> Values:
    """Cut values of at most 1 to so many bits that sums of `size` of them are exact in any order."""
    bits = 51 - size.bit_length()
    cut: Values = np.ldexp(np.rint(np.ldexp(values, bits)), -bits)
    return cut
