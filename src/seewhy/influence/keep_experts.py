"""The essence of a class: how well the network still tells it from the rest with only its top experts left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seewhy.classifier import Classifier
from seewhy.errors import Incompatible
from seewhy.influence.slice import Slice
from seewhy.types import Images


class Kept(NamedTuple):
    """One point of the curve of one class."""

    target: int
    units: int
    """Units that are left; all others are 0."""
    order: str
    """`experts` (largest influence first) or `random`, the control."""
    recall: float
    """Share of the images of the class that are still given to it, 0 to 1, higher is better."""
    false_alarms: float
    """Share of all other images that are given to it, 0 to 1, lower is better; NaN where there are none."""


class Upper:
    """g, the part of a network above a slice: output of the layer [n, ...] -> logits [n, classes].

    One image runs through the lower part for all n. Incompatible where the layer does not cut the network in two, so
    that something passes it by.
    """

    def __init__(self, classifier: Classifier, part: Slice, images: Images, output: Tensor, logits: Tensor) -> None:
        self.classifier, self.part, self.image = classifier, part, torch.zeros_like(images[:1])
        if not torch.allclose(self(output), logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max())):
            raise Incompatible(
                f"the layer {part.name} does not cut the network in two: something passes it by; set "
                "callbacks.experts.layer to a layer that everything goes through, such as the last pooling"
            )

    def __call__(self, output: Tensor) -> Tensor:
        """Logits, without gradients."""
        handle = self.part.module.register_forward_hook(lambda module, arguments, own: output)
        try:
            with torch.no_grad():
                return self.classifier(self.image).float()
        finally:
            handle.remove()


def kept_counts(units: int) -> list[int]:
    """1, 2, 4, ... and all units.

    >>> kept_counts(10)
    [1, 2, 4, 8, 10]
    """
    return [2**power for power in range(units.bit_length()) if 2**power < units] + [units]


def keep_experts(
    upper: Upper, output: Tensor, labels: Tensor, ranked: dict[int, Tensor], seed: int = 0, block: int = 1000
) -> Iterator[Kept]:
    """The curve of every class in `ranked` (its units, best expert first), beside a random order of the units.

    `output` [n, ...] of the layer for images with `labels` [n]. recall and false alarms of class c count the images
    whose largest logit is c when the network above sees only the first k units.
    """
    for target, order in ranked.items():
        chance = torch.randperm(len(order), generator=torch.Generator().manual_seed(seed + target))
        for name, units in (("experts", order), ("random", chance)):
            for count in kept_counts(len(order)):
                chosen = units[:count].to(output.device)
                parts = [upper(upper.part.keep(piece, chosen)).argmax(1) == target for piece in output.split(block)]
                said, own = torch.cat(parts), labels == target
                yield Kept(target, count, name, _share(said[own]), _share(said[~own]))


def mean_curve(curve: Sequence[Kept], order: str) -> list[tuple[int, float, float]]:
    """(units kept, recall, false alarms), each the mean over the classes."""
    rows = []
    for count in sorted({point.units for point in curve}):
        points = [(one.recall, one.false_alarms) for one in curve if (one.units, one.order) == (count, order)]
        recall, alarms = torch.tensor(points, dtype=torch.float64).nanmean(0).tolist()
        rows.append((count, recall, alarms))
    return rows


def _share(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else torch.nan
