"""Work of numpy and scipy beside each other: their routines use one core each, where those of torch use them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
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
