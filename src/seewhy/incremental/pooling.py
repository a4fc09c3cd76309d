"""Pooling as a local layer."""

from __future__ import annotations

import math
from typing import Any

from torch.nn import functional

from seewhy.incremental.layers import Window
from seewhy.incremental.recording import Step
from seewhy.incremental.span import Reach


def max_pool(step: Step) -> Window:
    """Maximum over a window."""
    _, kernel, stride, padding, dilation, ceil_mode = _pool_arguments(step, [1, 1], False)
    return Window(
        _reaches(kernel, stride or kernel, padding, dilation),
        -math.inf,
        lambda images: functional.max_pool2d(images, kernel, stride or kernel, 0, dilation),
        lambda images: functional.max_pool2d(images, kernel, stride or kernel, padding, dilation, ceil_mode),
        math.prod(kernel),
    )


def average_pool(step: Step, before: tuple[int, ...], after: tuple[int, ...]) -> Window | None:
    """Pooling whose divisor is the same at every place; an adaptive one where the sides divide."""
    if "adaptive" in str(step.operation):
        if before[2] % after[2] or before[3] % after[3]:
            return None
        kernel = stride = [before[2] // after[2], before[3] // after[3]]
        padding = [0, 0]
    else:
        _, kernel, stride, padding, ceil_mode, count_padding, *divisor = _pool_arguments(step, False, True)
        if ceil_mode or any(given is not None for given in divisor) or (any(padding) and not count_padding):
            return None
    return Window(
        _reaches(kernel, stride or kernel, padding, [1, 1]),
        0.0,
        lambda images: functional.avg_pool2d(images, kernel, stride or kernel),
        lambda images: functional.avg_pool2d(images, kernel, stride or kernel, padding),
        math.prod(kernel),
    )


def _pool_arguments(step: Step, *last: Any) -> list[Any]:
    """Images, kernel, stride, padding and two more; what a record leaves out has its default."""
    given = list(step.arguments(1)[:-1])
    return given + [[], [0, 0], *last][len(given) - 2 :]


def _reaches(*sizes: list[int]) -> tuple[Reach, Reach]:
    pairs = [(size[0], size[-1]) for size in sizes]
    rows, columns = (Reach(*axis) for axis in zip(*pairs, strict=True))
    return rows, columns
