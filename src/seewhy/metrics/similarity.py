"""Pearson's and Spearman's correlation between rows of numbers, and between maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.core.tensors import ROUNDING, find_finite_rows, map_in_threads
from seewhy.core.types import Attributions
from seewhy.metrics.base import MetricContext
from seewhy.metrics.perturbation_curves import find_changes, read_positions, sort_keys

BLOCK = 2**16
"""Values that are ranked together: smaller rows share the cost of a call, of larger ones each has a core of its own."""


def compute_spearman(first: Tensor, second: Tensor) -> Tensor:
    """Compute Spearman's rank correlation of each row of two tensors, ties with their mean rank.

    Args:
        first: float32 [batch, n].
        second: float32 [batch, n].

    Returns:
        float64 [batch] in [-1, 1]; NaN where a row is constant or holds NaN.
    """
    return _correlate_with_ranks(compute_ranks(first), second).to(first.device)


def compute_ranks(rows: Tensor) -> Tensor:
    """Rank the values of each row; several times as fast as `scipy.stats.rankdata`, with the same result.

    Args:
        rows: [batch, n], ranked as float32.

    Returns:
        float64 [batch, n] on the CPU, from 1; ties share their mean rank, a row with NaN is all NaN.
    """
    return torch.from_numpy(_map_blocks(_rank, _read_float32(rows)))


def _correlate_with_ranks(ranks: Tensor, rows: Tensor) -> Tensor:
    """Pearson's correlation [batch] of given ranks [batch, n] with those of each row [batch, n], on the CPU."""
    found = _map_blocks(lambda given, values: _correlate(given, _rank(values)), ranks.numpy(), _read_float32(rows))
    return torch.from_numpy(found)


def _read_float32(rows: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = rows.detach().float().cpu().numpy()
    return values


def _map_blocks(compute: Callable[..., NDArray[np.float64]], *arrays: NDArray[Any]) -> NDArray[np.float64]:
    """Apply a function that treats every row alone to blocks of the rows of [batch, n], one block to a core."""
    count, size = arrays[0].shape
    step = max(1, BLOCK // max(1, size))
    blocks = [slice(start, start + step) for start in range(0, max(1, count), step)]
    return np.concatenate(map_in_threads(lambda rows: compute(*(each[rows] for each in arrays)), blocks))


def _rank(values: NDArray[Any]) -> NDArray[np.float64]:
    """The ranks [rows, n] of values [rows, n]."""
    undefined = np.isnan(values).any(1)
    keys = sort_keys(np.where(undefined[:, None], np.float32(0), values) if undefined.any() else values)
    ranks = np.empty(values.shape)
    for positions, differ, row in zip(read_positions(keys), find_changes(keys), ranks, strict=True):
        if differ.all():
            row[positions] = np.arange(1, len(row) + 1)
        else:
            starts = np.flatnonzero(np.concatenate([[True], differ]))
            lengths = np.diff(starts, append=len(row))
            row[positions] = np.repeat(starts + (lengths + 1) / 2, lengths)
    ranks[undefined] = np.nan
    return ranks


def _correlate(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation [rows] of ranks [rows, n], as `compute_pearson`.

    Ranks are halves of whole numbers: up to about 200,000 of them all sums are exact in whatever order they are taken.
    """
    centred = [ranks - ranks.mean(1, keepdims=True) for ranks in (first, second)]
    spreads = [np.sqrt(np.square(each).sum(1)) for each in centred]
    scales = [np.sqrt(np.square(ranks).sum(1)) for ranks in (first, second)]
    constant = (spreads[0] <= ROUNDING * scales[0]) | (spreads[1] <= ROUNDING * scales[1])
    products = np.where(constant, np.nan, spreads[0] * spreads[1])
    correlations: NDArray[np.float64] = ((centred[0] * centred[1]).sum(1) / products).clip(-1, 1)
    return correlations


def compare_with_maps(context: MetricContext, other: Attributions) -> Tensor:
    """Compare the maps under measurement with others, as `compare_maps`; the maps' own ranks are computed once.

    Args:
        context: The batch with its maps.
        other: float32 [batch, height, width].

    Returns:
        float64 [batch] in [-1, 1].
    """
    ranks = context.compute_once("ranks of the maps", lambda: compute_ranks(context.attributions.flatten(1)))
    return compare_maps(context.attributions, other, ranks)


def compare_maps(original: Attributions, other: Attributions, ranks: Tensor | None = None) -> Tensor:
    """Compute Spearman's rank correlation of the signed values of two maps of the same image.

    Args:
        original: float32 [batch, height, width].
        other: float32 [batch, height, width].
        ranks: Those of the original [batch, pixels], if they are at hand.

    Returns:
        float64 [batch] in [-1, 1]. A constant other map has nothing in common with the original: 0. NaN where the
        original is constant, or a value of either is not finite.
    """
    rows, others = original.flatten(1).float(), other.flatten(1).float()
    finite = find_finite_rows(rows) & find_finite_rows(others)
    varied, blank = (rows != rows[:, :1]).any(1), (others == others[:, :1]).all(1)
    correlation = _correlate_with_ranks(compute_ranks(rows) if ranks is None else ranks, others)
    return correlation.to(rows.device).where(~(blank & varied), 0).where(finite, torch.nan)
