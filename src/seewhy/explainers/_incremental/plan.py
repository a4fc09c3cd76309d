"""Which windows are computed together, how large their patches are, and from where on whole maps.

Where the patches of a group of windows lie in the maps of a network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, product

import torch
from torch import Tensor

from seewhy.explainers._incremental.layers import Joined, Moved, Span, Window
from seewhy.explainers._incremental.nodes import Node, Nodes, shape_read
from seewhy.explainers._incremental.receptive_fields import (
    CALL,
    PREPARING,
    Spans,
    cheapest_runs,
    multiplications,
    part_cost,
    run_costs,
    spans_of,
    whole_cost,
)


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


MOST_RUNS = 5
"""Positions along one side are cut into at most so many runs; their pairs are the groups."""


@dataclass(frozen=True)
class Group:
    """The windows at `rows` x `columns` (indices of positions); their patches have the same size in every map."""

    rows: Tensor
    columns: Tensor
    regions: list[Region | None]
    cost: int
    """Of one window."""
    multiplications: int
    peak: int
    """The most numbers that one node reads, crops and writes for one window."""

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self.rows) * len(self.columns)


@dataclass(frozen=True)
class Plan:
    """All groups; cost, multiplications and peak are those of one image as a whole."""

    groups: list[Group]
    cost: int
    multiplications: int
    peak: int

    @property
    def share(self) -> float:
        """The multiplications of all windows over those of as many whole images."""
        made = sum(group.multiplications * group.windows for group in self.groups)
        return made / max(1, self.multiplications * sum(group.windows for group in self.groups))

    def gain(self, images: int) -> float:
        """How many times faster than whole images it should be, for so many images, with the time to prepare it."""
        windows = images * sum(group.windows for group in self.groups)
        return self.cost * windows / self._expected(images)

    def _expected(self, images: int) -> float:
        prepared = max(len(group.regions) for group in self.groups) * PREPARING
        calls = sum(len(group.regions) for group in self.groups) * CALL
        return prepared + calls + images * sum(group.cost * group.windows for group in self.groups)


def make_plan(nodes: Nodes, rows: Span, columns: Span, images: int) -> Plan:
    """The plan of least expected cost for windows that cover `rows` and `columns` of so many images at once."""
    wholes = [whole_cost(node, shape_read(nodes, node)) if node else 0 for node in nodes]
    products = sum(multiplications(node, shape_read(nodes, node)) for node in nodes if node)
    peak = max(_numbers(nodes, number) for number, node in enumerate(nodes) if node)
    spans = [spans_of(nodes, 0, rows), spans_of(nodes, 1, columns)]
    runs = [cheapest_runs(run_costs(nodes, spans[axis], spans[1 - axis], wholes), MOST_RUNS) for axis in (0, 1)]
    plans = []
    for pair in zip(*runs, strict=False):
        sides = [[(run, sides_of(nodes, axis, spans[axis], run)) for run in pair[axis]] for axis in (0, 1)]
        groups = [_group(nodes, wholes, *both) for both in product(*sides)]
        plans.append(Plan(groups, sum(wholes), products, peak))
    return max(plans, key=lambda found: found.gain(images))


Run = tuple[Tensor, list[Side | None]]


def _group(nodes: Nodes, wholes: list[int], rows: Run, columns: Run) -> Group:
    """One group, on whole maps from the node on from which they are cheaper."""
    pairs = zip(rows[1], columns[1], strict=True)
    regions = [Region(row, column) if row and column else None for row, column in pairs]
    parts = [_part(nodes, number, region, wholes[number]) for number, region in enumerate(regions)]
    total = sum(wholes)
    costs = [before + total - saved for before, saved in zip(accumulate(parts), accumulate(wholes), strict=True)]
    turn = min(range(len(costs)), key=costs.__getitem__)
    for number, region in enumerate(regions):
        if number > turn and region is not None:
            regions[number] = region.all_of_it()
    products = 0
    for node, region in zip(nodes, regions, strict=True):
        products += multiplications(node, shape_read(nodes, node), region.size if region else None) if node else 0
    peak = max(_numbers(nodes, number, regions) for number, node in enumerate(nodes) if node)
    return Group(rows[0], columns[0], regions, costs[turn], products, peak)


def _part(nodes: Nodes, number: int, region: Region | None, whole: int) -> int:
    node = nodes[number]
    if node is None or region is None or region.whole or not number:
        return whole
    return int(part_cost(node, shape_read(nodes, node)[0], *region.size))


def _numbers(nodes: Nodes, number: int, regions: list[Region | None] | None = None) -> int:
    """The numbers that a node reads, crops and writes, for whole maps or for patches."""
    node = nodes[number]
    assert node is not None, "only nodes that run are counted"
    after = regions[number] if regions else None
    total = math.prod((node.shape[0], *after.size) if after else node.shape)
    for value in node.inputs:
        source, before = nodes[value.step], regions[value.step] if regions else None
        assert source is not None, "what is read was made"
        total += math.prod((source.shape[0], *before.size) if before else source.shape)
        if before and must_crop(node, before, after):
            size = source.shape[1:] if after is None or after.whole else after.size
            if after and not after.whole and isinstance(node.layer, Window):
                size = tuple(reach.seen(side) for reach, side in zip(node.layer.reach, after.size, strict=True))
            total += source.shape[0] * math.prod(size)
    return total
