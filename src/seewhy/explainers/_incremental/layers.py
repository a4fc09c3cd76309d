"""Operations whose output at a place depends on nothing but the input around it.

What part of one side of a map a window of the image can change.
Pooling as a local layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.explainers._incremental.recording import Step
from seewhy.models.fusion.fused_convolution import Activation, can_fuse
from seewhy.models.fusion.fused_convolution import convolve as activated


@dataclass(frozen=True)
class Reach:
    """Along one side, output i of a layer sees inputs i * stride - padding + dilation * (0 .. kernel - 1)."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def seen(self, outputs: int) -> int:
        """How many inputs, from the first to the last, that many neighbouring outputs see."""
        return (outputs - 1) * self.stride + self.dilation * (self.kernel - 1) + 1

    def first_seen(self, output: Tensor) -> Tensor:
        """The first input that each output sees; negative in the padding."""
        return output * self.stride - self.padding


@dataclass(frozen=True)
class Span:
    """For each position of a window, the indices start .. stop - 1 of one side of `length` that it can change.

    Never empty: where nothing changes, one index is taken, so that patches always have a size.
    """

    starts: Tensor
    stops: Tensor
    length: int

    def through(self, reach: Reach, length: int) -> Span:
        """The outputs of a layer that see any of these inputs; `length` is how many outputs there are."""
        first = self.starts + reach.padding - reach.dilation * (reach.kernel - 1)
        starts = torch.div(first + reach.stride - 1, reach.stride, rounding_mode="floor")
        stops = torch.div(self.stops - 1 + reach.padding, reach.stride, rounding_mode="floor") + 1
        return _bounded(starts, stops, length)

    def moved(self, by: int, length: int) -> Span:
        """The same indices after `by` others were put before them."""
        return _bounded(self.starts + by, self.stops + by, length)

    def joined(self, other: Span) -> Span:
        """The smallest span that holds both."""
        starts, stops = torch.minimum(self.starts, other.starts), torch.maximum(self.stops, other.stops)
        return Span(starts, stops, self.length)

    @property
    def sizes(self) -> Tensor:
        """How many indices change for each position."""
        return self.stops - self.starts


def _bounded(starts: Tensor, stops: Tensor, length: int) -> Span:
    starts = starts.clamp(0, length - 1)
    return Span(starts, torch.maximum(stops.clamp(max=length), starts + 1), length)


Pair = tuple[Reach, Reach]


@dataclass(frozen=True)
class Pointwise:
    """Each place by itself: activations, normalisation with fixed statistics, sums with constants, copies."""

    apply: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Window:
    """A convolution or pooling: outputs see a window of the inputs; outside of the map, inputs count as `fill`."""

    reach: Pair
    fill: float
    cropped: Callable[[Tensor], Tensor]
    """The layer without padding, on inputs that hold all that the outputs see."""
    whole: Callable[[Tensor], Tensor]
    """The layer on whole maps."""
    products: int
    """How many inputs each output value adds up or compares."""
    weighted: bool = False
    """Whether they are multiplied with weights."""

    @property
    def crops(self) -> bool:
        """Whether outputs see more than the input at their own place."""
        return any((reach.kernel, reach.stride, reach.padding) != (1, 1, 0) for reach in self.reach)


@dataclass(frozen=True)
class Convolution:
    """A convolution; normalisation with fixed statistics and then an activation that follow can be made a part of it."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    activation: tuple[Activation, Pointwise] | None = None
    """As one operation with the convolution, and by itself where that cannot be."""

    def window(self) -> Window:
        """The convolution as a layer."""
        weight = self.weight.contiguous(memory_format=torch.channels_last)
        geometry = list(self.stride), list(self.dilation), self.groups

        def convolve(images: Tensor, padding: tuple[int, int]) -> Tensor:
            if self.activation is not None and can_fuse(images, weight, self.activation[0]):
                return activated(images, weight, self.bias, (list(padding), *geometry), self.activation[0])
            made = functional.conv2d(images, weight, self.bias, self.stride, padding, self.dilation, self.groups)
            return made if self.activation is None else self.activation[1].apply(made)

        kernel = self.weight.shape[2:]
        reach = [Reach(*axis) for axis in zip(kernel, self.stride, self.padding, self.dilation, strict=True)]
        return Window(
            (reach[0], reach[1]),
            0.0,
            lambda images: convolve(images, (0, 0)),
            lambda images: convolve(images, self.padding),
            math.prod(self.weight.shape[1:]),
            weighted=True,
        )

    def folded(self, scale: Tensor, shift: Tensor) -> Convolution:
        """The convolution followed by scale * x + shift for each channel."""
        weight = (self.weight.double() * scale.view(-1, 1, 1, 1)).to(self.weight)
        bias = shift if self.bias is None else self.bias.double() * scale + shift
        return replace(self, weight=weight, bias=bias.to(self.weight))


@dataclass(frozen=True)
class Moved:
    """A constant border around the map: every place keeps its value and gets new coordinates."""

    top: int
    left: int
    whole: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Joined:
    """Several maps of one size, place by place: sums, products, concatenated channels."""

    apply: Callable[[list[Tensor]], Tensor]


Layer = Pointwise | Window | Moved | Joined


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
