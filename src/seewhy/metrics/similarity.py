"""Pearson's and Spearman's correlation between rows of numbers, and between maps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seewhy.core.tensors import compute_pearson, find_finite_rows
from seewhy.core.types import Attributions
from seewhy.metrics.base import MetricContext
from seewhy.metrics.perturbation_curves import find_changes, read_positions, sort_keys


def compute_spearman(first: Tensor, second: Tensor) -> Tensor:
    """Compute Spearman's rank correlation of each row of two tensors, ties with their mean rank.

    Args:
        first: float32 [batch, n].
        second: float32 [batch, n].

    Returns:
        float64 [batch] in [-1, 1]; NaN where a row is constant or holds NaN.
    """
    return compute_pearson(compute_ranks(first), compute_ranks(second)).to(first.device)


def compute_ranks(rows: Tensor) -> Tensor:
    """Rank the values of each row; several times as fast as `scipy.stats.rankdata`, with the same result.

    Args:
        rows: [batch, n], ranked as float32.

    Returns:
        float64 [batch, n] on the CPU, from 1; ties share their mean rank, a row with NaN is all NaN.
    """
    values = rows.detach().float().cpu().numpy()
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
    return torch.from_numpy(ranks)


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
    correlation = compute_pearson(compute_ranks(rows) if ranks is None else ranks, compute_ranks(others))
    return correlation.to(rows.device).where(~(blank & varied), 0).where(finite, torch.nan)
