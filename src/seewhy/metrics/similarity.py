"""Correlations between rows of numbers, and between maps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seewhy.core.tensors import find_finite_rows
from seewhy.core.types import Attributions
from seewhy.metrics.base import MetricContext
from seewhy.metrics.pixel_ranking import find_changes, read_positions, sort_keys

ROUNDING = 1e-10
"""A spread below this share of the values is rounding, not a difference."""


def compute_pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation [batch] of each row of two tensors [batch, n]; NaN where a row is constant or not finite."""
    centred = [values.double() - values.double().mean(1, keepdim=True) for values in (first, second)]
    spreads = [values.norm(dim=1) for values in centred]
    constant = torch.zeros(len(first), dtype=torch.bool, device=first.device)
    for spread, values in zip(spreads, (first, second), strict=True):
        constant |= spread <= ROUNDING * values.double().norm(dim=1)
    correlation = (centred[0] * centred[1]).sum(1) / (spreads[0] * spreads[1])
    return correlation.clamp(-1, 1).masked_fill(constant, torch.nan)


def compute_spearman(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation [batch] of each row, ties with their mean rank; NaN as in `pearson`."""
    return compute_pearson(compute_ranks(first), compute_ranks(second)).to(first.device)


def compute_ranks(rows: Tensor) -> Tensor:
    """Ranks from 1 within float32 rows [batch, n], float64 on the host; ties share their mean, a row with NaN is all NaN.

    Several times as fast as the routine behind `scipy.stats.rankdata`, with the same result.
    """
    values = rows.detach().cpu().numpy()
    unknown = np.isnan(values).any(1)
    keys = sort_keys(np.where(unknown[:, None], np.float32(0), values) if unknown.any() else values)
    found = np.empty(values.shape)
    for places, differ, into in zip(read_positions(keys), find_changes(keys), found, strict=True):
        if differ.all():
            into[places] = np.arange(1, len(into) + 1)
        else:
            begins = np.flatnonzero(np.concatenate([[True], differ]))
            lengths = np.diff(begins, append=len(into))
            into[places] = np.repeat(begins + (lengths + 1) / 2, lengths)
    found[unknown] = np.nan
    return torch.from_numpy(found)


def compare_with_maps(context: MetricContext, other: Attributions) -> Tensor:
    """`map_similarity` of the maps under measurement with others; the maps' own ranks are found once."""
    known = context.compute_once("ranks of the maps", lambda: compute_ranks(context.attributions.flatten(1)))
    return compare_maps(context.attributions, other, known)


def compare_maps(original: Attributions, other: Attributions, known: Tensor | None = None) -> Tensor:
    """Spearman's rank correlation of the signed values of two maps of the same image [batch].

    A constant other map has nothing in common with the original: 0. NaN where the original is constant, or a value of
    either is not finite. `known` are the ranks of the original where someone has them.
    """
    rows, others = original.flatten(1), other.flatten(1)
    finite = find_finite_rows(rows) & find_finite_rows(others)
    varied, blank = (rows != rows[:, :1]).any(1), (others == others[:, :1]).all(1)
    alike = compute_pearson(compute_ranks(rows) if known is None else known, compute_ranks(others)).to(rows.device)
    return alike.where(~(blank & varied), 0).where(finite, torch.nan)
