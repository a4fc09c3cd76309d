"""Local layers: operations whose output at a position depends on nothing but the input around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.explainers._incremental.receptive_fields import ReceptiveField
from seewhy.explainers._incremental.recording import Step
from seewhy.models.fusion.convolution import Activation, can_fuse, convolve_activated


@dataclass(frozen=True)
class Pointwise:
    """Each position by itself: activations, normalisation with fixed statistics, sums with constants, copies."""

    run: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SlidingWindow:
    """A convolution or pooling: each output sees a window of the inputs; outside of the map, inputs count as `fill`."""

    fields: tuple[ReceptiveField, ReceptiveField]
    """Along the rows and along the columns."""
    fill: float
    run_unpadded: Callable[[Tensor], Tensor]
    """The layer without padding, on inputs that hold all that the outputs see."""
    run: Callable[[Tensor], Tensor]
    """The layer on whole maps."""
    inputs_per_output: int
    """How many inputs each output value adds up or compares."""
    weighted: bool = False
    """Whether they are multiplied with weights."""

    @property
    def sees_neighbours(self) -> bool:
        """Whether outputs see more than the input at their own position."""
        return any((field.kernel, field.stride, field.padding) != (1, 1, 0) for field in self.fields)


@dataclass(frozen=True)
class Padded:
    """A constant border around the map: every position keeps its value and gets new coordinates."""

    top: int
    left: int
    run: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Combined:
    """Several maps of one size, position by position: sums, products, concatenated channels."""

    run: Callable[[list[Tensor]], Tensor]


Layer = Pointwise | SlidingWindow | Padded | Combined


@dataclass(frozen=True)
class Convolution:
    """A convolution, into which a normalisation with fixed statistics and then an activation can be fused."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    activation: tuple[Activation, Pointwise] | None = None
    """As one operation with the convolution, and by itself where that cannot be."""

    def build_layer(self) -> SlidingWindow:
        """The convolution as a layer."""
        weight = self.weight.contiguous(memory_format=torch.channels_last)
        geometry = list(self.stride), list(self.dilation), self.groups

        def convolve(images: Tensor, padding: tuple[int, int]) -> Tensor:
            if self.activation is not None and can_fuse(images, weight, self.activation[0]):
                return convolve_activated(images, weight, self.bias, (list(padding), *geometry), self.activation[0])
            maps = functional.conv2d(images, weight, self.bias, self.stride, padding, self.dilation, self.groups)
            return maps if self.activation is None else self.activation[1].run(maps)

        kernel = self.weight.shape[2:]
        rows, columns = (
            ReceptiveField(*axis) for axis in zip(kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        return SlidingWindow(
            (rows, columns),
            0.0,
            lambda images: convolve(images, (0, 0)),
            lambda images: convolve(images, self.padding),
            math.prod(self.weight.shape[1:]),
            weighted=True,
        )

    def fold(self, scale: Tensor, shift: Tensor) -> Convolution:
        """The convolution followed by scale * x + shift for each channel."""
        weight = (self.weight.double() * scale.view(-1, 1, 1, 1)).to(self.weight)
        bias = shift if self.bias is None else self.bias.double() * scale + shift
        return replace(self, weight=weight, bias=bias.to(self.weight))


def build_max_pool(step: Step) -> SlidingWindow:
    """Maximum over a window."""
    _, kernel, stride, padding, dilation, ceil_mode = _read_pool_arguments(step, [1, 1], False)
    return SlidingWindow(
        _build_fields(kernel, stride or kernel, padding, dilation),
        -math.inf,
        lambda images: functional.max_pool2d(images, kernel, stride or kernel, 0, dilation),
        lambda images: functional.max_pool2d(images, kernel, stride or kernel, padding, dilation, ceil_mode),
        math.prod(kernel),
    )


def build_average_pool(step: Step, before: tuple[int, ...], after: tuple[int, ...]) -> SlidingWindow | None:
    """Pooling whose divisor is the same at every position; an adaptive one where the sides divide."""
    if "adaptive" in str(step.operation):
        if before[2] % after[2] or before[3] % after[3]:
            return None
        kernel = stride = [before[2] // after[2], before[3] // after[3]]
        padding = [0, 0]
    else:
        _, kernel, stride, padding, ceil_mode, count_padding, *divisor = _read_pool_arguments(step, False, True)
        if ceil_mode or any(number is not None for number in divisor) or (any(padding) and not count_padding):
            return None
    return SlidingWindow(
        _build_fields(kernel, stride or kernel, padding, [1, 1]),
        0.0,
        lambda images: functional.avg_pool2d(images, kernel, stride or kernel),
        lambda images: functional.avg_pool2d(images, kernel, stride or kernel, padding),
        math.prod(kernel),
    )


def _read_pool_arguments(step: Step, *last: Any) -> list[Any]:
    """Images, kernel, stride, padding and two more; what a recording leaves out has its default."""
    arguments = list(step.arguments(1)[:-1])
    return arguments + [[], [0, 0], *last][len(arguments) - 2 :]


def _build_fields(*sizes: list[int]) -> tuple[ReceptiveField, ReceptiveField]:
    pairs = [(size[0], size[-1]) for size in sizes]
    rows, columns = (ReceptiveField(*axis) for axis in zip(*pairs, strict=True))
    return rows, columns
