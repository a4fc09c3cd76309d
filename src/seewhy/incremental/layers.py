"""Operations whose output at a place depends on nothing but the input around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.incremental.span import Reach
from seewhy.models.fused_convolution import Activation, usable
from seewhy.models.fused_convolution import convolve as activated

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
            if self.activation is not None and usable(images, weight, self.activation[0]):
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
