"""Elementwise arithmetic of many steps, block by block, so that what lies between two steps stays in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

BLOCK = 2**17
"""Numbers of a block: with three or four tensors, what the caches of two cores hold."""


def in_blocks(compute: Callable[..., None], *values: Tensor) -> None:
    """`compute(*values)`, which acts on every element alone and writes into some of the tensors, block by block.

    Tensors on other devices than the CPU, small ones, and those of different shapes or
    orders in memory are handed over whole: the result is the same.
    """
    if values[0].device.type != "cpu" or values[0].numel() <= BLOCK or not _alike(values):
        compute(*values)
        return
    flat = [each.as_strided((each.numel(),), (1,)) for each in values]
    for parts in zip(*(each.split(BLOCK) for each in flat), strict=True):
        compute(*parts)


def in_blocks_beside(compute: Callable[..., None], values: Sequence[Tensor], beside: Sequence[Tensor]) -> None:
    """`in_blocks(compute, *values, *beside)` where those beside may be [1, ...]: the same for every image [n, ...]."""
    shape, other = values[0].shape, beside[0].shape
    if shape == other or values[0].device.type != "cpu" or other != (1, *shape[1:]):
        in_blocks(compute, *values, *beside)
        return
    count = max(1, BLOCK // beside[0].numel())
    for parts in zip(*(each.split(count) for each in values), strict=True):
        in_blocks(compute, *parts, *beside)


def _alike(values: Sequence[Tensor]) -> bool:
    """Whether the elements of all lie in the same order without gaps."""
    shapes = {each.shape for each in values}
    return len(shapes) == 1 and (
        all(each.is_contiguous() for each in values)
        or (values[0].ndim == 4 and all(each.is_contiguous(memory_format=torch.channels_last) for each in values))
    )
