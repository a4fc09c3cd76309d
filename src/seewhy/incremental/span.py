"""What part of one side of a map a window of the image can change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
