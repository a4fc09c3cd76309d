"""What computing a part of a map costs, in multiplications of a dense convolution.

The spans of every map of a network, and how positions of windows are grouped by them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from seewhy.explainers._incremental.layers import Joined, Moved, Span, Window
from seewhy.explainers._incremental.nodes import Node, Nodes, shape_read

MOVED = 16
"""Reading or writing a number takes as long as this many multiplications."""
SPARSE = 4
"""A multiplication for outputs that see few inputs (depthwise convolutions, pooling) takes as long as this many."""
FEW = 32
CALL = 6_000_000
"""Starting the operations of one node takes as long as this many multiplications."""
PREPARING = 50_000_000
"""Recording and planning one node takes as long as this many multiplications."""


def part_cost(node: Node, channels: int, height: Any, width: Any) -> Any:
    """Of an output patch of a local node that reads maps with so many channels; sides are numbers or tensors."""
    if isinstance(node.layer, Moved):
        return 0 * height * width
    cost = _output_cost(node, height, width)
    if isinstance(node.layer, Window) and node.layer.crops:
        rows, columns = node.layer.reach
        cost = cost + 2 * MOVED * channels * rows.seen(height) * columns.seen(width)
    if isinstance(node.layer, Joined):
        cost = cost + 2 * MOVED * channels * height * width
    return cost


def whole_cost(node: Node, read: tuple[int, ...]) -> int:
    """Of a node on whole maps; `read` is the shape of its first input."""
    if len(node.shape) == 3:
        return int(_output_cost(node, node.shape[1], node.shape[2]))
    return multiplications(node, read) + MOVED * math.prod(node.shape)


def multiplications(node: Node, read: tuple[int, ...], size: tuple[int, int] | None = None) -> int:
    """Those of convolutions and matrix products, for an output patch of that size or for all of it."""
    if isinstance(node.layer, Window):
        height, width = size or (node.shape[1], node.shape[2])
        return node.layer.weighted * node.layer.products * node.shape[0] * height * width
    is_product = node.layer is None and "mm" in str(node.step.operation)
    return math.prod(node.shape) * read[-1] if is_product and read else 0


def _output_cost(node: Node, height: Any, width: Any) -> Any:
    products = node.layer.products if isinstance(node.layer, Window) else 0
    return node.shape[0] * height * width * (products * (1 if products >= FEW else SPARSE) + MOVED)


Spans = list[Span | None]
"""For each node the span of its map along one side; None for nodes that are not local."""


def spans_of(nodes: Nodes, axis: int, span: Span) -> Spans:
    """What windows that cover `span` of the image's rows (axis 0) or columns (1) can change in each map."""
    made: Spans = [span]
    for node in nodes[1:]:
        if node is None or not node.local:
            made.append(None)
            continue
        first, *others = (found for value in node.inputs if (found := made[value.step]) is not None)
        for other in others:
            first = first.joined(other)
        if isinstance(node.layer, Window):
            first = first.through(node.layer.reach[axis], node.shape[axis + 1])
        elif isinstance(node.layer, Moved):
            first = first.moved((node.layer.top, node.layer.left)[axis], node.shape[axis + 1])
        made.append(first)
    return made


def run_costs(nodes: Nodes, spans: Spans, others: Spans, wholes: list[int]) -> Tensor:
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
            cost += part_cost(node, shape_read(nodes, node)[0], largest, across).clamp(max=wholes[number])
    numbers = torch.arange(count)
    return (cost * (numbers[None] - numbers[:, None] + 1)).triu()


def cheapest_runs(cost: Tensor, most: int) -> list[list[Tensor]]:
    """For 1, 2 .. `most` runs: the positions cut into that many runs of least total cost [i, j]."""
    count = len(cost)
    numbers = torch.arange(count)
    best, cuts = cost[0], [torch.zeros(count, dtype=torch.int64)]
    found = [[numbers]]
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
        found.append(runs[::-1])
    return found
