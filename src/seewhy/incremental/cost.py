"""What computing a part of a map costs, in multiplications of a dense convolution."""

from __future__ import annotations

import math
from typing import Any

from seewhy.incremental.layers import Joined, Moved, Window
from seewhy.incremental.nodes import Node

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
