"""The order in which perturbation curves visit the pixels of a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.core.random import seed_generator
from seewhy.metrics.base import MetricContext

LOWER_BITS = 32
"""Where a key holds the place of its value; the value itself is above."""


def order_descending(rows: Tensor) -> Tensor:
    """Places int64 [batch, n] of the finite float32 values of each row from the largest to the smallest, stable."""
    if rows.device.type != "cpu" or rows.dtype != torch.float32:
        return rows.argsort(dim=1, descending=True, stable=True)
    return torch.from_numpy(read_positions(sort_keys(rows.detach().numpy(), falling=True)))


def sort_keys(rows: NDArray[np.float32], falling: bool = False) -> NDArray[np.int64]:
    """A key for each value of the rows [batch, n], sorted within each row; no value may be NaN."""
    assert rows.dtype == np.float32, f"keys hold float32 values, not {rows.dtype}"
    bits = (rows + np.float32(0)).view(np.int32)  # -0.0 + 0.0 is 0.0, its equal
    rising = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys = (~rising if falling else rising).astype(np.int64) << LOWER_BITS
    keys |= np.arange(rows.shape[1])
    keys.sort(axis=1)
    return keys


def read_positions(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of the values in their rows."""
    places: NDArray[np.int64] = keys & ((1 << LOWER_BITS) - 1)
    return places


def find_changes(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the sorted values [..., n - 1] differ from the one before, from the second on."""
    values = keys >> LOWER_BITS
    differ: NDArray[np.bool_] = values[..., 1:] != values[..., :-1]
    return differ


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
    """How many pixels of each map have a positive attribution."""
    finite: list[bool]
    """False for a map with NaN or infinite values: it has no ranking and no score."""

    def coverage(self) -> list[float]:
        """The share of pixels with a positive attribution, NaN for a map that is not finite."""
        pixels = self.order.shape[1]
        known = zip(self.positive, self.finite, strict=True)
        return [count / pixels if finite else float("nan") for count, finite in known]

    def positive_shares(self, image: int) -> Tensor:
        """float64 [positive + 1] on the CPU: the share of all positive attribution in the first i pixels."""
        values = self.values[image, : self.positive[image]].double().cpu()
        sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
        return sums / sums[-1]


def rank_pixels(context: MetricContext) -> PixelRanking:
    """The ranking of the batch, made once."""
    return context.compute_once("ranking", lambda: _rank(context))


def _rank(context: MetricContext) -> PixelRanking:
    maps, finite = context.replace_non_finite()
    maps = maps.flatten(1)
    shuffled = torch.stack([_shuffle(context, image) for image in context.images]).to(maps.device)
    sorting = order_descending(maps.gather(1, shuffled))
    order = shuffled.gather(1, sorting)
    positions = torch.arange(maps.shape[1], dtype=torch.int32, device=maps.device).expand_as(order)
    ranks = torch.empty_like(positions, memory_format=torch.contiguous_format).scatter_(1, order, positions)
    return PixelRanking(order, ranks, maps.gather(1, order), (maps > 0).sum(1).tolist(), finite.tolist())


def _shuffle(context: MetricContext, image: Tensor) -> Tensor:
    return torch.randperm(image[0].numel(), generator=seed_generator(context.seed, image, "ties"))
