"""The plan of an incremental pass: which windows run together, how large their patches are, and from where on whole maps.

The patches of one group must have one size in every map, so that they form a batch. Few large groups waste work on
windows near the border, whose patches are smaller; many small groups cost calls. The positions along each side are
therefore cut into the runs of least expected cost, counted in multiplications of a dense convolution, and the pairs of
runs are the groups. Within a group, whole maps take over at the node from which they are cheaper than patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any

import torch
from torch import Tensor

from seewhy.explainers._incremental.nodes import Combined, Node, Nodes, Padded, SlidingWindow, find_input_shape
from seewhy.explainers._incremental.recording import Region, Side, Span

MOVE_COST = 16
"""Reading or writing a number takes as long as this many multiplications."""
SPARSE_COST = 4
"""A multiplication for outputs that see few inputs (depthwise convolutions, pooling) takes as long as this many."""
FEW_INPUTS = 32
CALL_COST = 6_000_000
"""Starting the operations of one node takes as long as this many multiplications."""
PREPARING_COST = 50_000_000
"""Recording and planning one node takes as long as this many multiplications."""
MOST_RUNS = 5
"""Positions along one side are cut into at most so many runs; their pairs are the groups."""

Spans = list[Span | None]
"""For each node the span of its map along one side; None for nodes that are not local."""
Run = tuple[Tensor, list[Side | None]]
"""Positions of windows along one side, and the patches of each map that they can change."""


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
        patches = sum(group.multiplications * group.windows for group in self.groups)
        return patches / max(1, self.multiplications * sum(group.windows for group in self.groups))

    def estimate_gain(self, images: int) -> float:
        """How many times faster than whole images it should be, for so many images, with the time to prepare it."""
        windows = images * sum(group.windows for group in self.groups)
        preparing = max(len(group.regions) for group in self.groups) * PREPARING_COST
        calls = sum(len(group.regions) for group in self.groups) * CALL_COST
        patches = images * sum(group.cost * group.windows for group in self.groups)
        return self.cost * windows / (preparing + calls + patches)


def build_plan(nodes: Nodes, rows: Span, columns: Span, images: int) -> Plan:
    """Find the plan of least expected cost.

    Args:
        nodes: The network.
        rows: The rows of the image that windows at each vertical position cover.
        columns: The columns that windows at each horizontal position cover.
        images: How many images will be explained at once.

    Returns:
        The plan for windows at all pairs of positions.
    """
    whole_costs = [_estimate_whole_cost(node, find_input_shape(nodes, node)) if node else 0 for node in nodes]
    multiplications = sum(_count_multiplications(node, find_input_shape(nodes, node)) for node in nodes if node)
    peak = max(_count_numbers(nodes, number) for number, node in enumerate(nodes) if node)
    spans = [_propagate_spans(nodes, 0, rows), _propagate_spans(nodes, 1, columns)]
    runs = [
        find_cheapest_runs(_estimate_run_costs(nodes, spans[axis], spans[1 - axis], whole_costs), MOST_RUNS)
        for axis in (0, 1)
    ]
    plans = []
    for pair in zip(*runs, strict=False):
        sides = [[(run, _find_sides(nodes, axis, spans[axis], run)) for run in pair[axis]] for axis in (0, 1)]
        groups = [_build_group(nodes, whole_costs, *both) for both in product(*sides)]
        plans.append(Plan(groups, sum(whole_costs), multiplications, peak))
    return max(plans, key=lambda plan: plan.estimate_gain(images))


def find_cheapest_runs(cost: Tensor, most: int) -> list[list[Tensor]]:
    """Cut a sequence of positions into runs of least total cost, by dynamic programming.

    Args:
        cost: float64 [positions, positions]: what the run i .. j costs.
        most: The largest number of runs.

    Returns:
        For 1, 2 .. `most` runs: the positions of each run.
    """
    count = len(cost)
    numbers = torch.arange(count)
    best, cuts = cost[0], [torch.zeros(count, dtype=torch.int64)]
    partitions = [[numbers]]
    for _ in range(1, min(most, count)):
        # the last run begins at i, after runs that end at i - 1, and ends at j
        total = torch.full((count, count), float("inf"), dtype=torch.float64)
        total[1:] = best[:-1, None] + cost[1:]
        least = total.masked_fill(numbers[:, None] > numbers[None], float("inf")).min(0)
        best = least.values
        cuts.append(least.indices)
        runs, end = [], count
        for cut in reversed(cuts):
            start = int(cut[end - 1])
            runs.append(numbers[start:end])
            end = start
        partitions.append(runs[::-1])
    return partitions


def must_crop(node: Node, before: Region, after: Region | None) -> bool:
    """Whether a patch must be set into its surroundings before a node reads it."""
    if after is None or after.is_whole:
        return not before.is_whole
    if isinstance(node.layer, SlidingWindow):
        return node.layer.sees_neighbours
    return isinstance(node.layer, Combined) and not before.coincides(after)


def _propagate_spans(nodes: Nodes, axis: int, span: Span) -> Spans:
    """What windows that cover `span` of the image's rows (axis 0) or columns (1) can change in each map."""
    spans: Spans = [span]
    for node in nodes[1:]:
        if node is None or not node.local:
            spans.append(None)
            continue
        changed, *others = (each for value in node.inputs if (each := spans[value.step]) is not None)
        for other in others:
            changed = changed.unite(other)
        if isinstance(node.layer, SlidingWindow):
            changed = changed.propagate(node.layer.fields[axis], node.shape[axis + 1])
        elif isinstance(node.layer, Padded):
            changed = changed.shift((node.layer.top, node.layer.left)[axis], node.shape[axis + 1])
        spans.append(changed)
    return spans


def _find_sides(nodes: Nodes, axis: int, spans: Spans, positions: Tensor) -> list[Side | None]:
    """The patches of each map along one side: one size that holds what windows at `positions` can change."""
    sides: list[Side | None] = []
    for node, span in zip(nodes, spans, strict=True):
        if node is None or span is None:
            sides.append(None)
        elif isinstance(node.layer, Padded):
            before = sides[node.inputs[0].step]
            assert before is not None, "a local node reads local nodes"
            shift = (node.layer.top, node.layer.left)[axis]
            sides.append(Side(before.starts + shift, before.size, span.length))
        else:
            size = int(span.sizes[positions].max())
            sides.append(Side(span.starts.clamp(max=span.length - size), size, span.length))
    return sides


def _build_group(nodes: Nodes, whole_costs: list[int], rows: Run, columns: Run) -> Group:
    """One group, on whole maps from the node on from which they are cheaper."""
    pairs = zip(rows[1], columns[1], strict=True)
    regions = [Region(row, column) if row and column else None for row, column in pairs]
    patch_costs = [_estimate_cost(nodes, number, region, whole_costs[number]) for number, region in enumerate(regions)]
    total = sum(whole_costs)
    costs = [
        before + total - saved for before, saved in zip(accumulate(patch_costs), accumulate(whole_costs), strict=True)
    ]
    turn = min(range(len(costs)), key=costs.__getitem__)
    for number, region in enumerate(regions):
        if number > turn and region is not None:
            regions[number] = region.extend()
    multiplications = sum(
        _count_multiplications(node, find_input_shape(nodes, node), region.size if region else None)
        for node, region in zip(nodes, regions, strict=True)
        if node
    )
    peak = max(_count_numbers(nodes, number, regions) for number, node in enumerate(nodes) if node)
    return Group(rows[0], columns[0], regions, costs[turn], multiplications, peak)


def _estimate_run_costs(nodes: Nodes, spans: Spans, others: Spans, whole_costs: list[int]) -> Tensor:
    """[i, j]: about what the positions i .. j along one side cost, computed with patches of one size.

    The patches' other side is taken to be as long as the average of `others`.
    """
    first = spans[0]
    assert first is not None, "the images are local"
    count = len(first.starts)
    cost = torch.zeros(count, count, dtype=torch.float64)
    for number, node in enumerate(nodes):
        span, other = spans[number], others[number]
        if number and node is not None and span is not None and other is not None:
            largest = span.sizes.double().expand(count, count).triu().cummax(1).values
            across = float(other.sizes.double().mean())
            channels = find_input_shape(nodes, node)[0]
            cost += _estimate_patch_cost(node, channels, largest, across).clamp(max=whole_costs[number])
    numbers = torch.arange(count)
    return (cost * (numbers[None] - numbers[:, None] + 1)).triu()


def _estimate_cost(nodes: Nodes, number: int, region: Region | None, whole_cost: int) -> int:
    """Of a node for one window."""
    node = nodes[number]
    if node is None or region is None or region.is_whole or not number:
        return whole_cost
    return int(_estimate_patch_cost(node, find_input_shape(nodes, node)[0], *region.size))


def _estimate_patch_cost(node: Node, channels: int, height: Any, width: Any) -> Any:
    """Of an output patch of a local node that reads maps with so many channels; sides are numbers or tensors."""
    if isinstance(node.layer, Padded):
        return 0 * height * width
    cost = _estimate_output_cost(node, height, width)
    if isinstance(node.layer, SlidingWindow) and node.layer.sees_neighbours:
        rows, columns = node.layer.fields
        cost = cost + 2 * MOVE_COST * channels * rows.count_inputs(height) * columns.count_inputs(width)
    if isinstance(node.layer, Combined):
        cost = cost + 2 * MOVE_COST * channels * height * width
    return cost


def _estimate_whole_cost(node: Node, input_shape: tuple[int, ...]) -> int:
    """Of a node on whole maps; `input_shape` is that of its first input."""
    if len(node.shape) == 3:
        return int(_estimate_output_cost(node, node.shape[1], node.shape[2]))
    return _count_multiplications(node, input_shape) + MOVE_COST * math.prod(node.shape)


def _estimate_output_cost(node: Node, height: Any, width: Any) -> Any:
    inputs = node.layer.inputs_per_output if isinstance(node.layer, SlidingWindow) else 0
    return node.shape[0] * height * width * (inputs * (1 if inputs >= FEW_INPUTS else SPARSE_COST) + MOVE_COST)


def _count_multiplications(node: Node, input_shape: tuple[int, ...], size: tuple[int, int] | None = None) -> int:
    """Those of convolutions and matrix products, for an output patch of that size or for all of it."""
    if isinstance(node.layer, SlidingWindow):
        height, width = size or (node.shape[1], node.shape[2])
        return node.layer.weighted * node.layer.inputs_per_output * node.shape[0] * height * width
    is_product = node.layer is None and "mm" in str(node.step.operation)
    return math.prod(node.shape) * input_shape[-1] if is_product and input_shape else 0


def _count_numbers(nodes: Nodes, number: int, regions: list[Region | None] | None = None) -> int:
    """The numbers that a node reads, crops and writes, for whole maps or for patches."""
    node = nodes[number]
    assert node is not None, "only nodes that run are counted"
    after = regions[number] if regions else None
    total = math.prod((node.shape[0], *after.size) if after else node.shape)
    for value in node.inputs:
        source, before = nodes[value.step], regions[value.step] if regions else None
        assert source is not None, "a value that is read was computed"
        total += math.prod((source.shape[0], *before.size) if before else source.shape)
        if before and must_crop(node, before, after):
            size = source.shape[1:] if after is None or after.is_whole else after.size
            if after and not after.is_whole and isinstance(node.layer, SlidingWindow):
                size = tuple(
                    field.count_inputs(side) for field, side in zip(node.layer.fields, after.size, strict=True)
                )
            total += source.shape[0] * math.prod(size)
    return total
