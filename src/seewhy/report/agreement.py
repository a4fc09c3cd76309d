"""How far methods agree on an image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from seewhy.report.map_image import Map, shrunk

SIDE = 56
"""Maps are averaged down to this side first: methods differ in grain where they agree on the place."""


def agreement(maps: Sequence[tuple[Map, bool]]) -> float:
    """Mean of Spearman's rank correlation over all pairs of (map [height, width], signed): 1 the same order, 0 none.

    Pairs in which one map is unsigned compare magnitudes, as such a map cannot say "against". Maps that are constant or
    not finite have no order and take no part. NaN where no pair is left.
    """
    ordered = [(_ranks(one), _ranks(np.abs(one)), signed) for one, signed in maps if np.isfinite(one).all()]
    found = []
    for (plain, size, signed), (other_plain, other_size, other_signed) in combinations(ordered, 2):
        both = signed and other_signed
        one, other = (plain, other_plain) if both else (size, other_size)
        if one is not None and other is not None and len(one) == len(other):
            found.append(float(one @ other))
    return float(np.mean(found)) if found else float("nan")


def _ranks(values: Map) -> NDArray[np.float64] | None:
    """Centred ranks of length 1, so that a product is a correlation; None for a constant map."""
    small = shrunk(values, SIDE)
    if small.min() == small.max():
        return None
    ranks = stats.rankdata(small, axis=None)
    ranks = ranks - ranks.mean()
    made: NDArray[np.float64] = ranks / np.linalg.norm(ranks)
    return made
