"""Split conformal calibration of the size of a region that keeps the prediction, and the check of its coverage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from seewhy.core.errors import UserError
from seewhy.statistics.intervals import LEVEL

if TYPE_CHECKING:
    import pandas as pd

SIZES = "sufficient_region"
"""The metric whose values are calibrated: the least share of an image that keeps its prediction."""
ALPHAS = (0.05, 0.2)
"""Error rates at which regions are calibrated."""
REGION_COLUMNS = (
    *("explainer", "alpha", "size", "n_calibration", "n_held_out", "covered", "low", "high"),
    *("expected_low", "expected_high", "note"),
)


@dataclass(frozen=True)
class Coverage:
    """A region that was calibrated on one half of the images, and how many of the other half it keeps the prediction of.

    Args:
        alpha: The error rate.
        size: Share of the pixels, in the order of the map.
        n_calibration: Images that the size was calibrated on.
        n_held_out: The other images.
        covered: Share of these whose prediction the region keeps.
        interval: Of `covered`, binomial (Wilson's with continuity correction, 95 %).
        expected: The shares between which 95 % of such splits lie, if images are exchangeable and no two sizes are equal
            (beta-binomial); equal sizes only raise the coverage.
    """

    alpha: float
    size: float
    n_calibration: int
    n_held_out: int
    covered: float
    interval: tuple[float, float]
    expected: tuple[float, float]


def calibrate_size(sizes: ArrayLike, alpha: float) -> float:
    """Calibrate a size that covers a new image with probability 1 - alpha.

    The k-th smallest of n sizes, k = ceil((n + 1) (1 - alpha)): if the n images and the new one are exchangeable, the new
    size is at most this with probability k / (n + 1) or more, over calibration images and new image together. Nothing is
    promised for images of another kind, for a class alone, or for one given set of calibration images.

    Vovk, Gammerman, Shafer: Algorithmic learning in a random world, 2005. Papadopoulos et al.: Inductive confidence
    machines for regression, ECML 2002.

    Args:
        sizes: Of the calibration images [n].
        alpha: The error rate, between 0 and 1.

    Returns:
        One of the sizes.

    Raises:
        UserError: If alpha is out of range, a size is not finite, or n is too small for it.
    """
    values = np.sort(np.asarray(sizes, dtype=np.float64))
    if not np.isfinite(values).all():
        raise UserError("a region is calibrated on sizes that are finite numbers: leave out images without one")
    rank, needed = _find_rank(len(values), alpha), count_needed(alpha)
    if rank > len(values):
        raise UserError(
            f"alpha={alpha:g} needs {needed} calibration images, and there are {len(values)}: explain at least "
            f"{2 * needed} images, of which one half is held out, or take a larger alpha"
        )
    return float(values[rank - 1])


def count_needed(alpha: float) -> int:
    """Count the calibration images that an error rate needs: the least n with ceil((n + 1) (1 - alpha)) <= n.

    Args:
        alpha: Between 0 and 1.

    Returns:
        n, from 1.

    Raises:
        UserError: If alpha is out of range.
    """
    if not 0 < alpha < 1:
        raise UserError(f"alpha={alpha:g} must lie between 0 and 1")
    return next(
        n for n in range(max(1, math.ceil(1 / alpha) - 2), math.ceil(1 / alpha) + 2) if _find_rank(n, alpha) <= n
    )


def _find_rank(n: int, alpha: float) -> int:
    if not 0 < alpha < 1:
        raise UserError(f"alpha={alpha:g} must lie between 0 and 1")
    return math.ceil((n + 1) * (1 - alpha) - 1e-9)  # (19 + 1) * 0.95 is 19, whatever rounding makes of it


def check_coverage(calibration: ArrayLike, held_out: ArrayLike, alpha: float) -> Coverage:
    """Calibrate a region on some images and check it on others.

    Args:
        calibration: Sizes of the calibration images [n].
        held_out: Sizes of the held-out images [m], at least one.
        alpha: The error rate.

    Returns:
        The region and its coverage.

    Raises:
        UserError: If there are too few images.
    """
    sizes, others = np.asarray(calibration, dtype=np.float64), np.asarray(held_out, dtype=np.float64)
    size = calibrate_size(sizes, alpha)
    if not len(others):
        raise UserError("the coverage of a region needs held-out images: explain more images")
    n, m, rank = len(sizes), len(others), _find_rank(len(sizes), alpha)
    hits = int((others <= size).sum())
    low, high = stats.binomtest(hits, m).proportion_ci(LEVEL, method="wilsoncc")
    ends = stats.betabinom.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], m, rank, n + 1 - rank) / m
    return Coverage(alpha, size, n, m, hits / m, (float(low), float(high)), (float(ends[0]), float(ends[1])))


def split_images(images: Sequence[str], seed: int = 0) -> tuple[list[str], list[str]]:
    """Split images at random into calibration and held-out images, the first half rounded up.

    Args:
        images: Their names, in any order, on which the split does not depend.
        seed: Of the split.

    Returns:
        (calibration, held out).
    """
    names = sorted(images)
    order: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(names))
    shuffled = [names[position] for position in order]
    half = (len(names) + 1) // 2
    return shuffled[:half], shuffled[half:]


def summarise_regions(values: pd.DataFrame, seed: int = 0, alphas: Sequence[float] = ALPHAS) -> pd.DataFrame:
    """Calibrate the region of every explainer on one half of the images and check it on the other.

    All explainers share the split. An image without a size (its map is broken) takes no part, and the note counts it.

    Args:
        values: Sizes, a row per image, a column per explainer.
        seed: Of the split.
        alphas: Error rates.

    Returns:
        A row per explainer and alpha, `REGION_COLUMNS`; without numbers where there are too few images, and the note says
        how many are needed.
    """
    import pandas as pd  # slow, and figures need the name of the metric alone

    first, second = split_images([str(name) for name in values.index], seed)
    rows = []
    for explainer in values.columns:
        sizes = values[explainer].set_axis(values.index.map(str))
        missing = int(sizes.isna().sum())
        for alpha in alphas:
            row: dict[str, object] = {"explainer": explainer, "alpha": alpha}
            notes = [f"{missing} without a size"] if missing else []
            try:
                region = check_coverage(sizes[first].dropna(), sizes[second].dropna(), alpha)
            except UserError as error:
                notes.append(str(error))
            else:
                row |= {"size": region.size, "covered": region.covered}
                row |= {"n_calibration": region.n_calibration, "n_held_out": region.n_held_out}
                row |= dict(zip(("low", "high"), region.interval, strict=True))
                row |= dict(zip(("expected_low", "expected_high"), region.expected, strict=True))
            rows.append(row | {"note": "; ".join(notes)})
    return pd.DataFrame(rows, columns=list(REGION_COLUMNS))
