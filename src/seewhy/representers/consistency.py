"""Class consistency: whether the nearest training images are of the same class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.representers.running_top import RunningTop
from seewhy.targets import UNKNOWN


class Nearest:
    """The `count` training vectors with the largest cosine to each of `tests` [m, d], seen a block at a time."""

    def __init__(self, tests: Tensor, count: int) -> None:
        self.tests = functional.normalize(tests.flatten(1).float(), dim=1)
        self.top = RunningTop(len(tests), count)

    def add(self, block: Tensor, first: int) -> None:
        """Training vectors [n, d] at the positions `first`, `first` + 1, ..."""
        self.top.add(self.tests @ functional.normalize(block.flatten(1).float(), dim=1).T, first)


def class_consistency(nearest: RunningTop, training_labels: Tensor, labels: Tensor) -> Tensor:
    """Share of the nearest training images that have the test image's own class.

    float64 [m] in [0, 1], higher is more consistent; NaN where the class of the test image is unknown (-1).
    """
    same = (training_labels[nearest.columns] == labels[:, None]).double().mean(1)
    return torch.where(labels == UNKNOWN, torch.nan, same)
