"""The order in which perturbation curves visit the pixels of a map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.image_seed import image_generator
from seewhy.metrics.evidence import Evidence
from seewhy.metrics.stable_order import largest_first


@dataclass(frozen=True)
class Ranking:
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


def ranking(evidence: Evidence) -> Ranking:
    """The ranking of the batch, made once."""
    return evidence.once("ranking", lambda: _rank(evidence))


def _rank(evidence: Evidence) -> Ranking:
    maps, finite = evidence.finite_maps()
    maps = maps.flatten(1)
    shuffled = torch.stack([_shuffle(evidence, image) for image in evidence.images]).to(maps.device)
    sorting = largest_first(maps.gather(1, shuffled))
    order = shuffled.gather(1, sorting)
    positions = torch.arange(maps.shape[1], dtype=torch.int32, device=maps.device).expand_as(order)
    ranks = torch.empty_like(positions, memory_format=torch.contiguous_format).scatter_(1, order, positions)
    return Ranking(order, ranks, maps.gather(1, order), (maps > 0).sum(1).tolist(), finite.tolist())


def _shuffle(evidence: Evidence, image: Tensor) -> Tensor:
    return torch.randperm(image[0].numel(), generator=image_generator(evidence.seed, image, "ties"))
