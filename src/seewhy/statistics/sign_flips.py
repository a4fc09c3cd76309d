"""The paired permutation test of a mean difference: what if every difference could as well have the other sign."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from seewhy.statistics.intervals import Values

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
