"""Steps whose backward rule is exact for the difference between an image and its baseline.

Each rule gives multipliers m with f(x) - f(b) = sum of m (x - b): the average derivative on the line from b to x
wherever that has a closed form.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seewhy.explainers.rules.blocks import in_blocks
from seewhy.explainers.rules.elementwise import Elementwise, derivative
from seewhy.explainers.rules.keeper import Keeper, Kept
from seewhy.explainers.rules.local_rule import Step

SAME = 1e-6
"""Differences up to this size count as none for curved functions: the derivative is the limit of the multiplier."""
CUTTING = frozenset("clamp clamp_max clamp_min clip hardtanh relu relu6".split())
PIECEWISE_LINEAR = frozenset("abs clamp clamp_max clamp_min clip hardsigmoid hardtanh leaky_relu prelu relu6".split())


class PairStep(Step):
    """A step that sees the image first and the baseline second; the multipliers are known after the second.

    `call` is the step as the network wrote it, `keeper` remembers what the image's operands were.
    """

    def __init__(self, keeper: Keeper, call: Callable[[], Tensor] | None) -> None:
        self.keeper = keeper
        self.call = call
        self.kept: list[Kept] = []

    def forward(self, *operands: Tensor) -> Tensor:
        """The result for the image."""
        assert self.call is not None
        self.kept = [self.keeper.keep(operand) for operand in operands]
        result, self.call = self.call(), None
        return result

    @abstractmethod
    def compare(self, *baselines: Tensor) -> Tensor | None:
        """Fix the multipliers and forget the image's operands; the baseline's result where it is known by then."""


class Secant(PairStep):
    """Rescale rule for y = f(x), element by element: m = (f(x) - f(b)) / (x - b), f'(x) where x = b."""

    def __init__(self, keeper: Keeper, call: Callable[[], Tensor] | None, function: Elementwise) -> None:
        super().__init__(keeper, call)
        self.function = function.function
        self.by_channel = function.name == "prelu"
        self.same = 0.0 if function.name in PIECEWISE_LINEAR else SAME
        self.multiplier: Tensor

    def compare(self, *baselines: Tensor) -> None:
        """The slope of the line through both points."""
        image, baseline = self.kept[0].take(), baselines[0]
        change = image - baseline
        self.multiplier = self.function(image).sub_(self.function(baseline)).div_(change)
        same = change == 0 if self.same == 0 else change.abs_() <= self.same
        if same.any():
            slopes = (
                derivative(self.function, image)[same] if self.by_channel else derivative(self.function, image[same])
            )
            self.multiplier[same] = slopes

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """m * signal."""
        return (signal * self.multiplier,)


class ClampSecant(Secant):
    """`Secant` for min(max(x, low), high): the share of the way from b to x that lies between the bounds.

    With t = max(x, b) and d = |x - b| that is (t - low) / d less (t - high) / d, each within 0 and 1: no difference of
    two results is taken, which would round where x is near b. The smallest number in d makes x = b the limit: 1
    between the bounds, else 0.
    """

    def __init__(
        self, keeper: Keeper, call: Callable[[], Tensor] | None, function: Elementwise, bounds: tuple[float, float]
    ) -> None:
        super().__init__(keeper, call, function)
        self.low, self.high = bounds

    def compare(self, *baselines: Tensor) -> None:
        """The share, block by block."""
        image = self.kept[0].take()
        self.multiplier = torch.empty_like(image)
        in_blocks(self._share, self.multiplier, image, baselines[0].expand_as(image))

    def _share(self, share: Tensor, image: Tensor, baseline: Tensor) -> None:
        distance = (image - baseline).abs_().add_(torch.finfo(image.dtype).tiny)
        top = torch.maximum(image, baseline)
        if self.low == -torch.inf:
            share.fill_(1)
        else:
            torch.sub(top, self.low, out=share).div_(distance).clamp_(0, 1)
        if self.high < torch.inf:
            share.sub_(top.sub_(self.high).div_(distance).clamp_(0, 1))


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

    def compare(self, *baselines: Tensor) -> None:
        """The means of both factors."""
        self.means = [(kept.take() + other).div_(2) for kept, other in zip(self.kept, baselines, strict=True)]

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

    def __init__(
        self, keeper: Keeper, call: Callable[[], Tensor] | None, pool: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> None:
        super().__init__(keeper, call)
        self.pool = pool
        self.shares: list[tuple[Tensor, Tensor]] = []

    def forward(self, *operands: Tensor) -> Tensor:
        """The maxima."""
        maximum, self.place = self.pool(operands[0])
        self.kept = [self.keeper.keep(operands[0]), self.keeper.keep(maximum)]
        self.call = None
        return maximum

    def compare(self, *baselines: Tensor) -> Tensor:
        """The change of each maximum, shared out."""
        (image, highest), baseline, place = (kept.take() for kept in self.kept), baselines[0], self.place
        highest_b, place_b = self.pool(baseline)
        self.memory_format = _memory_format(image)
        self.shape = image.shape
        change = highest - highest_b
        one = place == place_b
        share = (change / (highest - self._at(place, baseline))).where(change > 0, 0.0).masked_fill_(one, 1.0)
        share_b = (change / (self._at(place_b, image) - highest_b)).where(change < 0, 0.0).masked_fill_(one, 0.0)
        self.shares = [(place, share), (place_b, share_b)]
        return highest_b

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


def _memory_format(values: Tensor) -> torch.memory_format:
    last = values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last) and not values.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def pool_with_places(func: Any, args: tuple[Any, ...], kwargs: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A pooling call without its first argument, that also returns where each maximum was."""

    def pool(values: Tensor) -> tuple[Tensor, Tensor]:
        maximum, place = func(values, *args[1:], **{**kwargs, "return_indices": True})
        return maximum, place

    return pool
