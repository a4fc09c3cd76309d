"""Arithmetic on tensors and arrays that every room uses: finite values, precision, blur, blocks, threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from seewhy.core.types import Images

BLOCK = 2**17
"""Numbers of a block: with three or four tensors, what the caches of two cores hold."""
ROUNDING = 1e-10
"""A spread below this share of the values is rounding, not a difference."""
POOL = "seewhy-map"
"""Names of the threads that work side by side begin with it."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def is_all_finite(values: Tensor) -> bool:
    """Tell whether every value is finite.

    A sum is finite only if all its terms are, and takes a tenth of the time of `isfinite`. Where it is not, the terms
    may still be finite and only too large: then each is looked at.

    Args:
        values: A tensor of any shape.

    Returns:
        False where a value is NaN or infinite.
    """
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def find_finite_rows(values: Tensor) -> Tensor:
    """Find the rows whose values are all finite.

    Args:
        values: [batch, ...].

    Returns:
        bool [batch].
    """
    rows = values.flatten(1)
    return torch.ones_like(rows[:, 0], dtype=torch.bool) if is_all_finite(rows) else rows.isfinite().all(1)


def blur_gaussian(images: Images, size: tuple[int, int], sigma: float) -> Images:
    """Blur images with a Gaussian, mirrored at their borders without repeating the edge pixel.

    One product of matrices for each side, whose cost does not grow with the window: for wide ones the two-dimensional
    convolution of torchvision takes longer than a network.

    Args:
        images: [batch, channels, height, width].
        size: (rows, columns) of the window, both odd.
        sigma: Standard deviation in pixels.

    Returns:
        The blurred images, of the same shape.
    """
    rows, columns = (
        _build_blur_matrix(side, width, sigma).to(images) for side, width in zip(images.shape[2:], size, strict=True)
    )
    return rows @ images @ columns.T


def _build_blur_matrix(side: int, window: int, sigma: float) -> Tensor:
    """What each pixel of a line adds to each blurred one [side, side]."""
    offsets = torch.arange(window) - window // 2
    gaussian = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    positions = (torch.arange(side)[:, None] + offsets).abs()
    mirrored = torch.where(positions < side, positions, 2 * (side - 1) - positions)
    weights = torch.zeros(side, side, dtype=torch.double)
    return weights.scatter_add_(1, mirrored, (gaussian / gaussian.sum()).expand(side, -1))


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Apply a function to each item on as many threads as torch may use.

    It pays for routines of numpy and scipy, which use one core each and release the lock of the interpreter. The threads
    are kept from one call to the next: to begin them takes as long as to rank a map. A call inside of another one runs
    in the thread that it is made in.

    Args:
        function: Must not call torch, whose own threads would then compete with each other.
        items: The items.

    Returns:
        The result of each item, in their order.
    """
    queue = list(items)
    threads = torch.get_num_threads()
    if min(threads, len(queue)) <= 1 or threading.current_thread().name.startswith(POOL):
        return [function(item) for item in queue]
    return list(_find_pool(threads).map(function, queue))


@lru_cache(maxsize=1)
def _find_pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, POOL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_find_pool.cache_clear)  # a forked process has none of the threads


def widen(values: Tensor) -> Tensor:
    """Widen values to float32 at least; float64 stays as it is.

    What leaves a network goes through here, so that a network in double precision is explained in double precision.

    Args:
        values: Floating point of any precision.

    Returns:
        float32, or float64.
    """
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def compute_pearson(first: Tensor, second: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute Pearson's correlation of each row of two tensors, whose leading dimensions are broadcast.

    Args:
        first: [..., n].
        second: [..., n].
        valid: bool [..., n], which values count; None: all.

    Returns:
        float64 [...] in [-1, 1]; NaN where a row is constant (up to rounding) or not finite.
    """
    rows = [values.double() if valid is None else values.double().where(valid, 0) for values in (first, second)]
    centred = []
    for values in rows:
        mean = values.mean(-1, keepdim=True) if valid is None else values.sum(-1, True) / valid.sum(-1, True)
        centred.append(values - mean if valid is None else (values - mean).where(valid, 0))
    spreads = [values.norm(dim=-1) for values in centred]
    constant = [spread <= ROUNDING * values.norm(dim=-1) for spread, values in zip(spreads, rows, strict=True)]
    correlation = (centred[0] * centred[1]).sum(-1) / (spreads[0] * spreads[1])
    return correlation.clamp(-1, 1).masked_fill(constant[0] | constant[1], torch.nan)


def iterate_runs(image: Tensor) -> Iterator[tuple[int, slice]]:
    """Iterate over stretches of equal values: a chunk of many masks holds few images.

    Args:
        image: int64 [n].

    Yields:
        A value, and the rows of the stretch that has it.
    """
    values, counts = torch.unique_consecutive(image, return_counts=True)
    start = 0
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        yield value, slice(start, start + count)
        start += count


def compute_in_blocks(compute: Callable[..., None], *values: Tensor) -> None:
    """Compute elementwise arithmetic of many steps block by block, so that what lies between stays in the cache.

    Tensors on other devices than the CPU, small ones, and those of different shapes or orders in memory are handed over
    whole: the result is the same.

    Args:
        compute: Called with a block of each tensor; acts on every element alone and writes into some of the tensors.
        *values: Tensors of one shape.
    """
    if values[0].device.type != "cpu" or values[0].numel() <= BLOCK or not _alike(values):
        compute(*values)
        return
    flat = [each.as_strided((each.numel(),), (1,)) for each in values]
    for blocks in zip(*(each.split(BLOCK) for each in flat), strict=True):
        compute(*blocks)


def compute_in_blocks_beside(compute: Callable[..., None], values: Sequence[Tensor], beside: Sequence[Tensor]) -> None:
    """Compute elementwise arithmetic block by block, as `compute_in_blocks`, with values that all images share.

    Args:
        compute: Called with a block of each tensor, first those of `values`.
        values: Tensors [n, ...] of one shape.
        beside: Tensors [n, ...], or [1, ...] where they are the same for every image.
    """
    shape, other = values[0].shape, beside[0].shape
    if shape == other or values[0].device.type != "cpu" or other != (1, *shape[1:]):
        compute_in_blocks(compute, *values, *beside)
        return
    count = max(1, BLOCK // beside[0].numel())
    for blocks in zip(*(each.split(count) for each in values), strict=True):
        compute_in_blocks(compute, *blocks, *beside)


def _alike(values: Sequence[Tensor]) -> bool:
    """Whether the elements of all lie in the same order without gaps."""
    shapes = {each.shape for each in values}
    return len(shapes) == 1 and (
        all(each.is_contiguous() for each in values)
        or (values[0].ndim == 4 and all(each.is_contiguous(memory_format=torch.channels_last) for each in values))
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of torch means that memory ran out, on any device.

    Args:
        error: What a pass raised.

    Returns:
        True where a smaller batch may fit.
    """
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
