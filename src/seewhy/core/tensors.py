"""Whether tensors hold NaN or infinite values, in one pass over the memory.

Gaussian blur whose cost does not grow with its width.
Work of numpy and scipy beside each other: their routines use one core each, where those of torch use them all.
In which precision numbers are kept: single at least, and double where the network is double.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from seewhy.core.types import Images


def is_all_finite(values: Tensor) -> bool:
    """Whether every value is finite.

    A sum is finite only if all its terms are, and takes a tenth of the time of `isfinite`. Where it is not, the terms
    may still be finite and only too large: then each is looked at.
    """
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def find_finite_rows(values: Tensor) -> Tensor:
    """Whether all values of each row are finite, bool [batch]."""
    rows = values.flatten(1)
    return torch.ones_like(rows[:, 0], dtype=torch.bool) if is_all_finite(rows) else rows.isfinite().all(1)


def blur_gaussian(images: Images, size: tuple[int, int], sigma: float) -> Images:
    """Images [batch, channels, height, width] weighted with a Gaussian of `sigma` pixels, mirrored at their borders.

    `size` (rows, columns) is that of its window, both odd; the edge pixel itself is not repeated. One product of matrices
    for each side: for wide windows the two-dimensional convolution of torchvision takes longer than a network.
    """
    rows, columns = (
        _weights(side, width, sigma).to(images) for side, width in zip(images.shape[2:], size, strict=True)
    )
    return rows @ images @ columns.T


def _weights(side: int, window: int, sigma: float) -> Tensor:
    """[side, side]: what each pixel of a line adds to each blurred one."""
    offsets = torch.arange(window) - window // 2
    gaussian = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    places = (torch.arange(side)[:, None] + offsets).abs()
    mirrored = torch.where(places < side, places, 2 * (side - 1) - places)
    weights = torch.zeros(side, side, dtype=torch.double)
    return weights.scatter_add_(1, mirrored, (gaussian / gaussian.sum()).expand(side, -1))


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`function` of each item, in their order, on as many threads as torch may use.

    It pays where the function spends its time in routines that release the lock of the interpreter. It must not call
    torch, whose own threads would then compete with each other.
    """
    given = list(items)
    threads = min(torch.get_num_threads(), len(given))
    if threads <= 1:
        return [function(item) for item in given]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, given))


def widen(values: Tensor) -> Tensor:
    """The values in float32 at least: half precision is widened, float64 stays as it is.

    What leaves a network goes through here, so that a network in double precision is explained in double precision.
    """
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def iterate_runs(image: Tensor) -> Iterator[tuple[int, slice]]:
    """(value, its rows) for each stretch of equal values: a chunk of many masks holds few images."""
    values, counts = torch.unique_consecutive(image, return_counts=True)
    start = 0
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        yield value, slice(start, start + count)
        start += count


BLOCK = 2**17
"""Numbers of a block: with three or four tensors, what the caches of two cores hold."""


def compute_in_blocks(compute: Callable[..., None], *values: Tensor) -> None:
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


def compute_in_blocks_beside(compute: Callable[..., None], values: Sequence[Tensor], beside: Sequence[Tensor]) -> None:
    """`in_blocks(compute, *values, *beside)` where those beside may be [1, ...]: the same for every image [n, ...]."""
    shape, other = values[0].shape, beside[0].shape
    if shape == other or values[0].device.type != "cpu" or other != (1, *shape[1:]):
        compute_in_blocks(compute, *values, *beside)
        return
    count = max(1, BLOCK // beside[0].numel())
    for parts in zip(*(each.split(count) for each in values), strict=True):
        compute_in_blocks(compute, *parts, *beside)


def _alike(values: Sequence[Tensor]) -> bool:
    """Whether the elements of all lie in the same order without gaps."""
    shapes = {each.shape for each in values}
    return len(shapes) == 1 and (
        all(each.is_contiguous() for each in values)
        or (values[0].ndim == 4 and all(each.is_contiguous(memory_format=torch.channels_last) for each in values))
    )
