"""Do metrics agree about methods: Kendall's tau between their rankings, and what one image less changes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

FEWEST = 3
"""Methods for a tau: of two the ranking is one coin."""
AGREEMENT_COLUMNS = ("metric", "other", "tau", "n_methods")


class RankStability(NamedTuple):
    """What becomes of a ranking of methods by their means when one image after the other is left out."""

    first: str
    """The method with the best mean."""
    first_kept: float
    """Share of the images without which the same method is first."""
    tau_mean: float
    """Mean of Kendall's tau between the ranking with and without an image."""
    tau_least: float
    """The least of these."""
    n_images: int
    """Images on which every method has a value."""
    n_methods: int
    """Methods that were ranked."""


def compute_tau(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Compute Kendall's tau-b of two lists of scores, or of each row of two tables.

    tau = sum over pairs of sign(a_i - a_j) sign(b_i - b_j), over the root of the product of the numbers of pairs that are
    not tied in the one and in the other; as `scipy.stats.kendalltau`.

    Kendall: The treatment of ties in ranking problems, Biometrika 1945.

    Args:
        first: [..., methods].
        second: [..., methods].

    Returns:
        [...] from -1 to 1; NaN where all are tied in one of them.
    """
    one, other = (_compare_pairs(np.asarray(values, dtype=np.float64)) for values in (first, second))
    norms = np.sqrt((one**2).sum(-1) * (other**2).sum(-1))
    taus: NDArray[np.float64] = np.divide(
        (one * other).sum(-1), norms, where=norms > 0, out=np.full(norms.shape, np.nan)
    )
    return taus


def _compare_pairs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = np.triu_indices(values.shape[-1], 1)
    signs: NDArray[np.float64] = np.sign(values[..., rows] - values[..., columns])
    return signs


def tabulate_agreement(
    means: Mapping[str, Mapping[str, float]], better: Mapping[str, Literal["higher", "lower"]]
) -> pd.DataFrame:
    """Tabulate how alike every two metrics rank the methods that both have a mean of.

    Args:
        means: {metric: {method: mean}}; controls should be left out, as agreement about them says little of methods.
        better: Which end of each metric is better.

    Returns:
        `AGREEMENT_COLUMNS`, a row for each pair of metrics: tau is positive where the better methods of the one are those of
        the other; NaN below three methods, or where all are tied.
    """
    rows = []
    for metric, other in combinations(means, 2):
        one, two = pd.Series(dict(means[metric]), dtype=float), pd.Series(dict(means[other]), dtype=float)
        both = pd.concat([one, two], axis=1).dropna()
        tau = float(compute_tau(both[0], both[1])) if len(both) >= FEWEST else np.nan
        rows.append((metric, other, tau if better[metric] == better[other] else -tau, len(both)))
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def measure_rank_stability(values: pd.DataFrame, better: Literal["higher", "lower"]) -> RankStability | None:
    """Measure what one image less changes in the ranking of methods by their means.

    Args:
        values: A row per image, a column per method; images on which a method has no value are left out.
        better: Which end of the metric is better.

    Returns:
        The stability; None below three methods or two images.
    """
    complete = values.dropna(axis=1, how="all").dropna()
    if complete.shape[1] < FEWEST or len(complete) < 2:
        return None
    table = complete.to_numpy(float) * (1 if better == "higher" else -1)
    means = table.mean(0)
    without = (table.sum(0) - table) / (len(table) - 1)
    taus = compute_tau(np.broadcast_to(means, without.shape), without)
    first = int(means.argmax())
    kept = float((without.argmax(1) == first).mean())
    defined = taus[~np.isnan(taus)]
    mean, least = (float(defined.mean()), float(defined.min())) if len(defined) else (np.nan, np.nan)
    return RankStability(str(complete.columns[first]), kept, mean, least, *complete.shape)
