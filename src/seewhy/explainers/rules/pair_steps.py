"""Steps whose backward rule is exact for the difference between an image and its baseline.

Each rule gives multipliers m with f(x) - f(b) = sum of m (x - b): the average derivative on the line from b to x
wherever that has a closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seewhy.explainers.rules.affine import memory_format
from seewhy.explainers.rules.blocks import in_blocks_beside
from seewhy.explainers.rules.elementwise import Elementwise, derivative
from seewhy.explainers.rules.local_rule import Step

SAME = 1e-6
"""Differences up to this size count as none for curved functions: the derivative is the limit of the multiplier."""
SMOOTH = frozenset("atan cos erf exp gelu logsigmoid mish sigmoid silu sin softplus tanh".split())
NEAR = 1e-2
"""Up to this difference the derivative of a smooth function in the middle is closer to the slope than a quotient, which
rounds by 6e-8 over the difference; it is off by a 24th of the third derivative times the difference squared."""
CUTTING = frozenset("clamp clamp_max clamp_min clip hardtanh relu relu6".split())
PIECEWISE_LINEAR = frozenset("abs clamp clamp_max clamp_min clip hardsigmoid hardtanh leaky_relu prelu relu6".split())


class PairStep(Step):
    """A step that knows its operands for the baseline, beside each image or [1, ...] for all of them."""

    def __init__(self, baselines: tuple[Tensor, ...]) -> None:
        self.baselines = baselines


class Secant(PairStep):
    """Rescale rule for y = f(x), element by element: m = (f(x) - f(b)) / (x - b), f'(x) where x = b."""

    def __init__(self, baselines: tuple[Tensor, ...], function: Elementwise) -> None:
        super().__init__(baselines)
        self.function = function.function
        self.in_place = function.in_place
        self.by_channel = function.name == "prelu"
        self.near = 0.0 if function.name in PIECEWISE_LINEAR else NEAR if function.name in SMOOTH else SAME
        self.multiplier: Tensor

    def forward(self, *operands: Tensor) -> Tensor:
        """f(x); the slope of the line through both points is kept."""
        (values,), (baseline,) = operands, self.baselines
        result = self.function(values)
        self.multiplier = torch.empty_like(result)
        points = (self.multiplier, values, result), (baseline, self.function(baseline))
        if self.by_channel:
            self._slope(*points[0], *points[1])
        else:
            in_blocks_beside(self._slope, *points)
        return values.copy_(result) if self.in_place else result

    def _slope(self, slope: Tensor, image: Tensor, result: Tensor, baseline: Tensor, baseline_result: Tensor) -> None:
        change = image - baseline
        torch.sub(result, baseline_result, out=slope).div_(change)
        near = change == 0 if self.near == 0 else change.abs() <= self.near
        if near.any():
            middle = image - change / 2
            slope[near] = (
                derivative(self.function, middle)[near] if self.by_channel else derivative(self.function, middle[near])
            )

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """m * signal, in the memory of m."""
        return (self.multiplier.mul_(signal),)


class ClampSecant(Secant):
    """`Secant` for min(max(x, low), high): the share of the way from b to x that lies between the bounds.

    The difference of both results is exact or that of a bound and a number, so the quotient is rounded once and within
    0 and 1. The smallest number above and below it makes x = b the limit: 1 between the bounds, else 0.
    """

    def __init__(self, baselines: tuple[Tensor, ...], function: Elementwise, bounds: tuple[float, float]) -> None:
        super().__init__(baselines, function)
        self.low, self.high = bounds

    def forward(self, *operands: Tensor) -> Tensor:
        """The numbers cut off, and the share, in one go over the memory."""
        (values,), (baseline,) = operands, self.baselines
        result = values if self.in_place else torch.empty_like(values)
        self.multiplier = torch.empty_like(values)
        smallest = torch.full_like(baseline, torch.finfo(baseline.dtype).tiny)
        limit = torch.ops.aten.hardtanh_backward(smallest, baseline, self.low, self.high)
        beside = baseline, self.function(baseline), limit
        in_blocks_beside(self._share, (self.multiplier, values, result), beside)
        return result

    def _share(
        self, share: Tensor, image: Tensor, result: Tensor, baseline: Tensor, baseline_result: Tensor, limit: Tensor
    ) -> None:
        change = (image - baseline).add_(torch.finfo(image.dtype).tiny)
        torch.clamp(image, self.low, self.high, out=result)
        torch.sub(result, baseline_result, out=share).add_(limit).div_(change)


def bounds_of(function: Elementwise, like: Tensor) -> tuple[float, float] | None:
    """(low, high) of a function that cuts numbers off at two bounds and leaves the others; None for any other."""
    if function.name not in CUTTING:
        return None
    try:
        low, high = function.function(like.new_tensor([-torch.inf, torch.inf])).tolist()
    except (RuntimeError, ValueError):  # a bound for each element
        return None
    return low, high


class Product(PairStep):
    """z = x * y, both depending on the image: m_x = (y + y_b) / 2 and m_y = (x + x_b) / 2, exact for the sum of both."""

    def __init__(self, baselines: tuple[Tensor, ...], call: Callable[[], Tensor]) -> None:
        super().__init__(baselines)
        self.call: Callable[[], Tensor] | None = call

    def forward(self, *operands: Tensor) -> Tensor:
        """The product as the network wrote it; the means of both factors are kept."""
        assert self.call is not None
        self.means = [(image + other).div_(2) for image, other in zip(operands, self.baselines, strict=True)]
        result, self.call = self.call(), None
        return result

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """Each mean times the signal, summed where the factor was broadcast."""
        first, second = self.means
        return (signal * second).sum_to_size(first.shape), (signal * first).sum_to_size(second.shape)


class MaxPool(PairStep):
    """The maximum over each window, which may overlap others.

    With i the image's largest position, j the baseline's, and D the change of the maximum: m_i = 1 where i = j;
    otherwise m_i = D / (x_i - b_i) where the maximum rose and m_j = D / (x_j - b_j) where it fell. D lies between
    those differences, so every multiplier is in [0, 1].
    """

    def __init__(self, baselines: tuple[Tensor, ...], pool: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__(baselines)
        self.pool = pool
        self.shares: list[tuple[Tensor, Tensor]] = []

    def forward(self, *operands: Tensor) -> Tensor:
        """The maxima; the change of each, shared out, is kept."""
        (image,), (baseline,) = operands, self.baselines
        highest, place = self.pool(image)
        highest_b, place_b = (each.expand_as(highest) for each in self.pool(baseline))
        self.memory_format = memory_format(image)
        self.shape = image.shape
        change = highest - highest_b
        one = place == place_b
        at_b = self._at(place, baseline.expand_as(image))
        share = (change / (highest - at_b)).where(change > 0, 0.0).masked_fill_(one, 1.0)
        share_b = (change / (self._at(place_b, image) - highest_b)).where(change < 0, 0.0).masked_fill_(one, 0.0)
        self.shares = [(place, share), (place_b, share_b)]
        return highest

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """The signal of each window to its two positions, added up over the windows."""
        total = torch.empty(
            self.shape, device=signal.device, dtype=signal.dtype, memory_format=self.memory_format
        ).zero_()
        positions = self._positions(total)
        for place, share in self.shares:
            positions.scatter_add_(1, self._positions(place), self._positions(signal * share))
        return (total,)

    def _positions(self, values: Tensor) -> Tensor:
        """[batch, rows * columns, channels] or [batch * channels, rows * columns]: whichever needs no copy."""
        if self.memory_format == torch.channels_last:
            return values.permute(0, 2, 3, 1).flatten(1, 2)
        return values.flatten(0, -3).flatten(1)

    def _at(self, place: Tensor, values: Tensor) -> Tensor:
        """The values at flat positions of the rows and columns, in the shape of `place`."""
        found = self._positions(values).gather(1, self._positions(place))
        if self.memory_format == torch.channels_last:
            return found.unflatten(1, place.shape[2:]).permute(0, 3, 1, 2)
        return found.view(place.shape)


def pool_with_places(func: Any, args: tuple[Any, ...], kwargs: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A pooling call without its first argument, that also returns where each maximum was."""

    def pool(values: Tensor) -> tuple[Tensor, Tensor]:
        maximum, place = func(values, *args[1:], **{**kwargs, "return_indices": True})
        return maximum, place

    return pool
