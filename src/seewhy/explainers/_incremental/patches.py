"""The passes of an incremental network: over clean images, whose maps are kept, and over the patches of windows.

A patch that a node reads together with its surroundings is set into a piece of the clean map, the crop that the node
needs. Clean maps are kept as tables [images * height * width + 1, channels], of which any crop is one index operation;
the last row stands for everything outside of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seewhy.explainers._incremental.layers import Padded, SlidingWindow
from seewhy.explainers._incremental.nodes import Node, Nodes
from seewhy.explainers._incremental.plan import Group, must_crop
from seewhy.explainers._incremental.receptive_fields import Region
from seewhy.explainers._incremental.recording import Value

Key = tuple[int, float]
"""A node and what counts as its value outside of its map."""


@dataclass(frozen=True)
class CleanPass:
    """The table of the clean maps of each key, and the `output` of the network."""

    tables: dict[Key, Tensor]
    output: Tensor


class Windows(NamedTuple):
    """Windows of one group: the clean image and the position along each side of each [n]."""

    images: Tensor
    rows: Tensor
    columns: Tensor


class Crop(NamedTuple):
    """Crops of one size: the rows and columns [n] where they begin, perhaps outside of the map."""

    tops: Tensor
    lefts: Tensor
    size: tuple[int, int]


class ValueStore:
    """The outputs of nodes while a network runs, each forgotten when nothing after it reads it."""

    def __init__(self, nodes: Nodes, result: Value) -> None:
        self._outputs: dict[int, Any] = {}
        last: dict[int, int] = {}
        for number, node in enumerate(nodes):
            if node is not None:
                last |= {number: number} | {value.step: number for value in node.inputs}
        last.pop(result.step)
        self._released: dict[int, list[int]] = {}
        for number, reader in last.items():
            self._released.setdefault(reader, []).append(number)

    def put(self, number: int, output: Any) -> None:
        """Keep the output of node `number`, and forget what nothing after it reads."""
        self._outputs[number] = output
        for released in self._released.get(number, ()):
            del self._outputs[released]

    def get(self, value: Value) -> Any:
        """One output of a node."""
        output = self._outputs[value.step]
        return output[value.output] if isinstance(output, tuple | list) else output


def find_clean_keys(nodes: Nodes, groups: Sequence[Group]) -> set[Key]:
    """The clean maps that some group needs."""
    keys = set()
    for group in groups:
        for number, node in enumerate(nodes):
            for value in node.inputs if node and number else ():
                before = group.regions[value.step]
                if node and before is not None and must_crop(node, before, group.regions[number]):
                    keys.add((value.step, _find_fill(node, group.regions[number])))
    return keys


def run_clean(nodes: Nodes, result: Value, images: Tensor, keys: set[Key]) -> CleanPass:
    """Run the network on whole images.

    Args:
        nodes: The network.
        result: Its output.
        images: float32 [n, channels, height, width].
        keys: The maps to keep.

    Returns:
        The clean maps and the output [n, ...].
    """
    values = ValueStore(nodes, result)
    tables: dict[Key, Tensor] = {}
    for number, node in enumerate(nodes):
        if node is None:
            continue
        if number:
            output = node.run([values.get(value) for value in node.inputs], len(images))
        else:
            output = images.contiguous(memory_format=torch.channels_last)
        tables |= {key: _build_table(output, key[1]) for key in keys if key[0] == number}
        values.put(number, output)
    return CleanPass(tables, values.get(result))


def run_patches(
    nodes: Nodes, result: Value, group: Group, clean: CleanPass, windows: Windows, pixels: Tensor
) -> Tensor:
    """Run the network on the patches of windows.

    Args:
        nodes: The network.
        result: Its output.
        group: The group that the windows belong to.
        clean: The pass over the clean images.
        windows: Which windows of which images [n].
        pixels: What covers them [n, channels, height, width].

    Returns:
        The output [n, ...] for the clean images with the pixels in the windows.
    """
    values = ValueStore(nodes, result)
    values.put(0, pixels.contiguous(memory_format=torch.channels_last))
    for number, node in enumerate(nodes):
        if node is None or not number:
            continue
        after = group.regions[number]
        inputs = []
        for value in node.inputs:
            patch, before = values.get(value), group.regions[value.step]
            if before is not None and must_crop(node, before, after):
                source = nodes[value.step]
                assert source is not None, "a value that is read was computed"
                crop = _find_crop(node, source, after, windows)
                table = clean.tables[value.step, _find_fill(node, after)]
                maps = _cut_crops(table, source.sides, windows.images, crop)
                corners = before.rows.starts[windows.rows], before.columns.starts[windows.columns]
                _paste_patches(maps, crop, patch.permute(0, 2, 3, 1), *corners)
                patch = maps.permute(0, 3, 1, 2)
            inputs.append(patch)
        values.put(number, _run_node(node, after, inputs, len(pixels)))
    return values.get(result)


def _run_node(node: Node, after: Region | None, inputs: list[Any], count: int) -> Any:
    if after is not None and not after.is_whole:
        if isinstance(node.layer, SlidingWindow):
            return node.layer.run_unpadded(inputs[0])
        if isinstance(node.layer, Padded):
            return inputs[0]
    return node.run(inputs, count)


def _find_fill(node: Node, after: Region | None) -> float:
    """What a node takes for the values outside of the map."""
    sliding = isinstance(node.layer, SlidingWindow) and after is not None and not after.is_whole
    return node.layer.fill if sliding else 0.0  # type: ignore[union-attr]


def _find_crop(node: Node, source: Node, after: Region | None, windows: Windows) -> Crop:
    """The part of a map that a node reads to compute its patches."""
    if after is None or after.is_whole:
        zeros = torch.zeros_like(windows.rows)
        return Crop(zeros, zeros, source.sides)
    tops, lefts = after.rows.starts[windows.rows], after.columns.starts[windows.columns]
    if not isinstance(node.layer, SlidingWindow):
        return Crop(tops, lefts, after.size)
    rows, columns = node.layer.fields
    size = rows.count_inputs(after.rows.size), columns.count_inputs(after.columns.size)
    return Crop(rows.find_first_input(tops), columns.find_first_input(lefts), size)


def _build_table(maps: Tensor, fill: float) -> Tensor:
    table = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    return torch.cat([table, table.new_full((1, table.shape[1]), fill)])


def _cut_crops(table: Tensor, sides: tuple[int, int], images: Tensor, crop: Crop) -> Tensor:
    """Crops [n, height, width, channels] of the maps number `images` [n]; `table` holds maps of size `sides`."""
    rows, inside_rows = _list_indices(crop.tops, crop.size[0], sides[0])
    columns, inside_columns = _list_indices(crop.lefts, crop.size[1], sides[1])
    flat = (images[:, None] * sides[0] + rows)[:, :, None] * sides[1] + columns[:, None, :]
    outside = ~(inside_rows[:, :, None] & inside_columns[:, None, :])
    flat = flat.masked_fill_(outside, len(table) - 1)
    return table.index_select(0, flat.view(-1).to(table.device)).view(*flat.shape, table.shape[1])


def _paste_patches(into: Tensor, crop: Crop, patches: Tensor, tops: Tensor, lefts: Tensor) -> None:
    """Set `patches` [n, height, width, channels], which begin at `tops` and `lefts` of the map, into crops of it.

    What does not lie in its crop is left out.
    """
    down, right = tops - crop.tops, lefts - crop.lefts
    if bool((down == down[0]).all()) and bool((right == right[0]).all()):
        rows, from_rows = _find_overlap(int(down[0]), patches.shape[1], into.shape[1])
        columns, from_columns = _find_overlap(int(right[0]), patches.shape[2], into.shape[2])
        into[:, rows, columns] = patches[:, from_rows, from_columns]
        return
    rows_at, inside_rows = _list_indices(down, patches.shape[1], into.shape[1])
    columns_at, inside_columns = _list_indices(right, patches.shape[2], into.shape[2])
    inside = (inside_rows[:, :, None] & inside_columns[:, None, :]).view(-1)
    first = torch.arange(len(into))[:, None] * into.shape[1]
    flat = ((first + rows_at)[:, :, None] * into.shape[2] + columns_at[:, None, :]).view(-1)
    source = patches.reshape(-1, patches.shape[3])
    if not bool(inside.all()):
        indices = inside.nonzero()[:, 0]
        source, flat = source.index_select(0, indices.to(source.device)), flat[indices]
    into.view(-1, into.shape[3]).index_put_((flat.to(into.device),), source)


def _list_indices(first: Tensor, count: int, length: int) -> tuple[Tensor, Tensor]:
    """(`count` indices from each first one [n, count], whether each is one of `length`)."""
    indices = first[:, None] + torch.arange(count)
    return indices, (indices >= 0) & (indices < length)


def _find_overlap(start: int, length: int, room: int) -> tuple[slice, slice]:
    """(where something that starts at `start` lies in a room, which part of it lies there)."""
    low, high = min(max(start, 0), room), max(0, min(start + length, room))
    high = max(low, high)
    return slice(low, high), slice(low - start, high - start)
