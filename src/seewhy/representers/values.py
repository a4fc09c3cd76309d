"""Representer values: how much each training image adds to one logit of a test image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.representers.refit import BLOCK, with_constant
from seewhy.representers.running_top import RunningTop
from seewhy.types import Targets

TEST_BLOCK = 512
"""Test images whose values are held at once: the memory is TEST_BLOCK x BLOCK float64."""


@dataclass(frozen=True)
class Strongest:
    """For each test image the training images that speak most for and against the target."""

    excitatory: RunningTop
    """The largest values."""
    inhibitory: RunningTop
    """The most negative values with their sign turned, so that they fall too."""
    total: Tensor
    """float64 [m]: the sum of the values of all training images, which is the logit of the refitted layer."""


def strongest(features: Tensor, coefficients: Tensor, tests: Tensor, targets: Targets, count: int) -> Strongest:
    """The `count` largest and smallest alpha_ij (f_i . f_t + 1) over the training images i, and their sum.

    `features` [n, d] and `coefficients` alpha float64 [n, classes] of the training images, `tests` [m, d] and `targets`
    j [m] of the test images. Streamed: neither m x n x classes nor m x n values are held. Values above 0 are excitatory
    (the training image speaks for the target), below 0 inhibitory.
    Yeh, Kim, Yen, Ravikumar: Representer point selection for explaining deep neural networks, NeurIPS 2018.
    """
    parts = [
        _of_block(features, coefficients, tests[start : start + TEST_BLOCK], targets[start : start + TEST_BLOCK], count)
        for start in range(0, len(tests), TEST_BLOCK)
    ]
    joined = Strongest(RunningTop(0, count), RunningTop(0, count), torch.cat([part.total for part in parts]))
    for name in ("excitatory", "inhibitory"):
        tops = [getattr(part, name) for part in parts]
        getattr(joined, name).values = torch.cat([top.values for top in tops])
        getattr(joined, name).columns = torch.cat([top.columns for top in tops])
    return joined


def _of_block(features: Tensor, coefficients: Tensor, tests: Tensor, targets: Targets, count: int) -> Strongest:
    rows = with_constant(tests)
    excitatory, inhibitory = RunningTop(len(tests), count), RunningTop(len(tests), count)
    total = torch.zeros(len(tests), dtype=torch.float64)
    for start in range(0, len(features), BLOCK):
        span = slice(start, start + BLOCK)
        block = (rows @ with_constant(features[span]).T) * coefficients[span][:, targets].T
        excitatory.add(block, start)
        inhibitory.add(-block, start)
        total += block.sum(1)
    return Strongest(excitatory, inhibitory, total)
