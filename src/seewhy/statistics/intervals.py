"""The interval of a mean, also where the bootstrap has nothing to say."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values: TypeAlias = NDArray[np.float64]
RESAMPLES = 9999
LEVEL = 0.95
ROUGH = 10
"""Below this many values the interval is called rough."""
TOGETHER = 500
"""Samples that share one bootstrap."""
DRAWN = 2_000_000
"""Resampled values in memory at once."""


class Interval(NamedTuple):
    """[low, high], both NaN where there is no interval, and what a reader must know about it."""

    low: float
    high: float
    note: str


def compute_mean_intervals(samples: Sequence[Values], seed: int = 0) -> list[Interval]:
    """The 95 % bootstrap interval of the mean of each sample of finite values [n], as `scipy.stats.bootstrap` gives it.

    Bias corrected and accelerated, 9,999 resamples. Samples of one length are resampled at the same random places, and
    sums are exact, so neither the order of the values nor the company of other samples changes an interval. With less
    than three values there is none; equal values give an interval without width; where the correction is not defined,
    the percentile interval stands in. Each case is said in the note.

    Efron, Better bootstrap confidence intervals, JASA 1987.
    """
    ordered = [np.sort(np.asarray(sample, dtype=np.float64)) for sample in samples]
    found: dict[int, Interval] = {}
    pending: dict[int, list[int]] = {}
    for number, values in enumerate(ordered):
        known = _degenerate(values)
        if known is None:
            pending.setdefault(len(values), []).append(number)
        else:
            found[number] = known
    for size, numbers in pending.items():
        for first in range(0, len(numbers), TOGETHER):
            chosen = numbers[first : first + TOGETHER]
            made = _bootstrapped(np.stack([ordered[number] for number in chosen]), size, seed)
            found |= dict(zip(chosen, made, strict=True))
    return [found[number] for number in range(len(ordered))]


def _degenerate(values: Values) -> Interval | None:
    if len(values) < 3:
        return Interval(np.nan, np.nan, f"n={len(values)}: too few for an interval")
    if values[0] == values[-1]:
        return Interval(float(values[0]), float(values[0]), f"all {len(values)} values are equal")
    return None


def _bootstrapped(stack: Values, size: int, seed: int) -> list[Interval]:
    """Intervals of equally long samples [samples, size]."""
    result = _bootstrap(stack, "BCa", seed)
    note = f"n={size}: a rough interval" if size < ROUGH else ""
    made = []
    for values, low, high in zip(stack, result.low, result.high, strict=True):
        if np.isfinite(low) and np.isfinite(high):
            made.append(Interval(float(low), float(high), note))
            continue
        plain = _bootstrap(values[None], "percentile", seed)
        reasons = [note] * bool(note) + ["percentile interval: BCa is not defined here"]
        made.append(Interval(float(plain.low[0]), float(plain.high[0]), "; ".join(reasons)))
    return made


def _bootstrap(stack: Values, method: str, seed: int) -> Any:
    """The intervals of the means of [samples, size], all resampled at the same places."""
    size, values = stack.shape[1], _summable(stack)

    def means(places: NDArray[np.int64], axis: int) -> Values:
        drawn = np.moveaxis(places, axis, -1)
        rows = drawn.reshape(-1, drawn.shape[-1])
        flat = rows + size * np.arange(len(rows))[:, None]
        counts = np.bincount(flat.ravel(), minlength=size * len(rows)).reshape(len(rows), size)
        return (values @ counts.T / drawn.shape[-1]).reshape(len(values), *drawn.shape[:-1])

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        return stats.bootstrap(
            (np.arange(size),),
            means,
            n_resamples=RESAMPLES,
            batch=max(1, DRAWN // size),
            vectorized=True,
            axis=-1,
            confidence_level=LEVEL,
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval


def _summable(stack: Values) -> Values:
    """Values cut to so many bits below the largest of their row that sums of resampled values are exact in any order.

    Otherwise a resample that equals the sample could have a mean below or above its own by rounding alone.
    """
    bits = 51 - stack.shape[1].bit_length()
    _, exponent = np.frexp(np.abs(stack).max(axis=1, keepdims=True))
    return np.ldexp(np.rint(np.ldexp(stack, bits - exponent)), exponent - bits)
