"""The order of a map's pixels: largest attribution first, ties at random or in the order of the memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.core.random import seed_generator
from seewhy.metrics.base import MetricContext

LOWER_BITS = 32
"""Bits of a sort key that hold the position of its value; the value itself lies above them."""


@dataclass(frozen=True)
class PixelRanking:
    """Pixels of each map from the largest attribution to the smallest.

    Pixels with equal attributions come in a random order that belongs to (seed, image): a constant map is ranked like
    noise and has no share in where the pixels lie. The order with the smallest first is exactly the reverse.
    """

    order: Tensor
    """int64 [batch, pixels]: the pixel at each rank."""
    ranks: Tensor
    """int32 [batch, pixels]: the rank of each pixel, 0 for the largest attribution."""
    values: Tensor
    """float32 [batch, pixels]: the attributions in that order."""
    positive: list[int]
    """Number of pixels of each map with a positive attribution."""
    finite: list[bool]
    """False for a map with NaN or infinite values: it has no ranking and no score."""

    def compute_coverage(self) -> list[float]:
        """Compute the share of pixels with a positive attribution, NaN for a map that is not finite."""
        pixels = self.order.shape[1]
        counts = zip(self.positive, self.finite, strict=True)
        return [count / pixels if finite else float("nan") for count, finite in counts]

    def compute_positive_shares(self, image: int) -> Tensor:
        """Compute the share of all positive attribution in the first i pixels, float64 [positive + 1] on the CPU."""
        values = self.values[image, : self.positive[image]].double().cpu()
        sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
        return sums / sums[-1]


def rank_pixels(context: MetricContext) -> PixelRanking:
    """Rank the pixels of every map of a batch, once."""
    return context.compute_once("pixel ranking", lambda: _rank(context))


def order_descending(rows: Tensor) -> Tensor:
    """Sort each row stably, largest value first.

    Args:
        rows: Finite values [batch, n]; float32 on the CPU takes a faster way than torch's.

    Returns:
        int64 [batch, n]: the positions of the values in their rows.
    """
    if rows.device.type != "cpu" or rows.dtype != torch.float32:
        return rows.argsort(dim=1, descending=True, stable=True)
    return torch.from_numpy(read_positions(sort_keys(rows.detach().numpy(), falling=True)))


def sort_keys(rows: NDArray[np.float32], falling: bool = False) -> NDArray[np.int64]:
    """Sort integers that hold a value and its position, several times as fast as a stable sort of the values.

    Args:
        rows: [batch, n] without NaN.
        falling: Whether the largest value comes first.

    Returns:
        One key per value, sorted within each row.
    """
    assert rows.dtype == np.float32, f"keys hold float32 values, not {rows.dtype}"
    bits = (rows + np.float32(0)).view(np.int32)  # -0.0 + 0.0 is 0.0, its equal
    rising = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys = (~rising if falling else rising).astype(np.int64) << LOWER_BITS
    keys |= np.arange(rows.shape[1])
    keys.sort(axis=1)
    return keys


def read_positions(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Read the positions of the values in their rows out of sort keys."""
    positions: NDArray[np.int64] = keys & ((1 << LOWER_BITS) - 1)
    return positions


def find_changes(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find which of the sorted values [..., n], from the second on, differ from the one before: bool [..., n - 1]."""
    values = keys >> LOWER_BITS
    differ: NDArray[np.bool_] = values[..., 1:] != values[..., :-1]
    return differ


def _rank(context: MetricContext) -> PixelRanking:
    maps, finite = context.replace_non_finite()
    maps = maps.flatten(1)
    shuffled = torch.stack([_shuffle(context, image) for image in context.images]).to(maps.device)
    order = shuffled.gather(1, order_descending(maps.gather(1, shuffled)))
    positions = torch.arange(maps.shape[1], dtype=torch.int32, device=maps.device).expand_as(order)
    ranks = torch.empty_like(positions, memory_format=torch.contiguous_format).scatter_(1, order, positions)
    return PixelRanking(order, ranks, maps.gather(1, order), (maps > 0).sum(1).tolist(), finite.tolist())


def _shuffle(context: MetricContext, image: Tensor) -> Tensor:
    return torch.randperm(image[0].numel(), generator=seed_generator(context.seed, image, "ties"))
