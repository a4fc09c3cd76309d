"""The spans of every map of a network, and how positions of windows are grouped by them."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.incremental.cost import part_cost
from seewhy.incremental.layers import Moved, Window
from seewhy.incremental.nodes import Nodes, shape_read
from seewhy.incremental.span import Span

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
