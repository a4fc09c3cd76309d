"""Where the patches of a group of windows lie in the maps of a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.incremental.layers import Joined, Moved, Window
from seewhy.incremental.nodes import Node, Nodes
from seewhy.incremental.spans import Spans


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
    def whole(self) -> bool:
        """Whether the patches are the whole map."""
        return (self.rows.size, self.columns.size) == (self.rows.length, self.columns.length)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the patches."""
        return self.rows.size, self.columns.size

    def same(self, other: Region) -> bool:
        """Whether the patches lie at the same places."""
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        return all(one.size == two.size and torch.equal(one.starts, two.starts) for one, two in pairs)

    def all_of_it(self) -> Region:
        """The whole map."""
        sides = [Side(torch.zeros_like(side.starts), side.length, side.length) for side in (self.rows, self.columns)]
        return Region(sides[0], sides[1])


def sides_of(nodes: Nodes, axis: int, spans: Spans, positions: Tensor) -> list[Side | None]:
    """The patches of each map along one side: one size that holds what windows at `positions` can change."""
    made: list[Side | None] = []
    for node, span in zip(nodes, spans, strict=True):
        if node is None or span is None:
            made.append(None)
        elif isinstance(node.layer, Moved):
            before = made[node.inputs[0].step]
            assert before is not None, "a local node reads local nodes"
            shift = (node.layer.top, node.layer.left)[axis]
            made.append(Side(before.starts + shift, before.size, span.length))
        else:
            size = int(span.sizes[positions].max())
            made.append(Side(span.starts.clamp(max=span.length - size), size, span.length))
    return made


def must_crop(node: Node, before: Region, after: Region | None) -> bool:
    """Whether a patch must be set into its surroundings before a node reads it."""
    if after is None or after.whole:
        return not before.whole
    if isinstance(node.layer, Window):
        return node.layer.crops
    return isinstance(node.layer, Joined) and not before.same(after)
