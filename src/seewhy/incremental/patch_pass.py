"""The pass over windows: each layer computes the patches that a window can change, from patches and clean maps."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seewhy.incremental.clean import Clean, fill_of
from seewhy.incremental.layers import Moved, Window
from seewhy.incremental.nodes import Node, Nodes
from seewhy.incremental.patches import Place, paste, pieces
from seewhy.incremental.plan import Group
from seewhy.incremental.recording import Value
from seewhy.incremental.region import Region, must_crop
from seewhy.incremental.values import Values


class Windows(NamedTuple):
    """Windows of one group: the clean image and the position along each side of each [n]."""

    images: Tensor
    rows: Tensor
    columns: Tensor


def patch_pass(nodes: Nodes, result: Value, group: Group, clean: Clean, windows: Windows, pixels: Tensor) -> Tensor:
    """The output [n, ...] for clean images with new `pixels` [n, channels, height, width] in the windows."""
    values = Values(nodes, result)
    values.put(0, pixels.contiguous(memory_format=torch.channels_last))
    for number, node in enumerate(nodes):
        if node is None or not number:
            continue
        after = group.regions[number]
        read = []
        for value in node.inputs:
            found, before = values.get(value), group.regions[value.step]
            if before is not None and must_crop(node, before, after):
                source = nodes[value.step]
                assert source is not None, "what is read was made"
                place = _place(node, source, after, windows)
                cut = pieces(clean.maps[value.step, fill_of(node, after)], source.sides, windows.images, place)
                corners = before.rows.starts[windows.rows], before.columns.starts[windows.columns]
                paste(cut, place, found.permute(0, 2, 3, 1), *corners)
                found = cut.permute(0, 3, 1, 2)
            read.append(found)
        values.put(number, _run(node, after, read, len(pixels)))
    return values.get(result)


def _run(node: Node, after: Region | None, read: list[Any], count: int) -> Any:
    if after is not None and not after.whole:
        if isinstance(node.layer, Window):
            return node.layer.cropped(read[0])
        if isinstance(node.layer, Moved):
            return read[0]
    return node.whole(read, count)


def _place(node: Node, source: Node, after: Region | None, windows: Windows) -> Place:
    """The part of a map that a node reads to make its patches."""
    if after is None or after.whole:
        nothing = torch.zeros_like(windows.rows)
        return Place(nothing, nothing, source.sides)
    tops, lefts = after.rows.starts[windows.rows], after.columns.starts[windows.columns]
    if not isinstance(node.layer, Window):
        return Place(tops, lefts, after.size)
    rows, columns = node.layer.reach
    size = rows.seen(after.rows.size), columns.seen(after.columns.size)
    return Place(rows.first_seen(tops), columns.first_seen(lefts), size)
