"""Geometry of receptive fields: which rows and columns of a map a window of the image can change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReceptiveField:
    """Along one side, output i of a layer sees inputs i * stride - padding + dilation * (0 .. kernel - 1)."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def count_inputs(self, outputs: int) -> int:
        """How many inputs, from the first to the last, that many neighbouring outputs see."""
        return (outputs - 1) * self.stride + self.dilation * (self.kernel - 1) + 1

    def find_first_input(self, output: Tensor) -> Tensor:
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

    def propagate(self, field: ReceptiveField, length: int) -> Span:
        """The outputs of a layer that see any of these inputs; `length` is how many outputs there are."""
        first = self.starts + field.padding - field.dilation * (field.kernel - 1)
        starts = torch.div(first + field.stride - 1, field.stride, rounding_mode="floor")
        stops = torch.div(self.stops - 1 + field.padding, field.stride, rounding_mode="floor") + 1
        return _clamp(starts, stops, length)

    def shift(self, by: int, length: int) -> Span:
        """The same indices after `by` others were put before them."""
        return _clamp(self.starts + by, self.stops + by, length)

    def unite(self, other: Span) -> Span:
        """The smallest span that holds both."""
        starts, stops = torch.minimum(self.starts, other.starts), torch.maximum(self.stops, other.stops)
        return Span(starts, stops, self.length)

    @property
    def sizes(self) -> Tensor:
        """How many indices change for each position."""
        return self.stops - self.starts


def _clamp(starts: Tensor, stops: Tensor, length: int) -> Span:
    starts = starts.clamp(0, length - 1)
    return Span(starts, torch.maximum(stops.clamp(max=length), starts + 1), length)


@dataclass(frozen=True)
class Side:
    """Where patches of `size` rows (or columns) start for each position of a window, in a map of `length`."""

    starts: Tensor
    size: int
    length: int


@dataclass(frozen=True)
class Region:
    """The rows and the columns of patches in one map."""

    rows: Side
    columns: Side

    @property
    def is_whole(self) -> bool:
        """Whether the patches are the whole map."""
        return (self.rows.size, self.columns.size) == (self.rows.length, self.columns.length)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the patches."""
        return self.rows.size, self.columns.size

    def coincides(self, other: Region) -> bool:
        """Whether the patches have the same size and position."""
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        return all(ours.size == theirs.size and torch.equal(ours.starts, theirs.starts) for ours, theirs in pairs)

    def extend(self) -> Region:
        """The whole map."""
        sides = [Side(torch.zeros_like(side.starts), side.length, side.length) for side in (self.rows, self.columns)]
        return Region(sides[0], sides[1])
