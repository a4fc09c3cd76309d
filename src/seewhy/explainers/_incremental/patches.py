"""The pass over the clean images, and what it keeps for patches to be set into.

Cutting pieces out of clean maps and setting patches into them.
The pass over windows: each layer computes the patches that a window can change, from patches and clean maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seewhy.explainers._incremental.layers import Moved, Window
from seewhy.explainers._incremental.nodes import Node, Nodes, Values
from seewhy.explainers._incremental.plan import Group, Region, must_crop
from seewhy.explainers._incremental.recording import Value

Key = tuple[int, float]
"""A node and what counts as its value outside of its map."""


@dataclass(frozen=True)
class Clean:
    """`maps`: [images * height * width + 1, channels] for each key, the last row for outside; `output` of the network."""

    maps: dict[Key, Tensor]
    output: Tensor


def clean_pass(nodes: Nodes, result: Value, images: Tensor, kept: set[Key]) -> Clean:
    """The network on whole images."""
    values = Values(nodes, result)
    maps: dict[Key, Tensor] = {}
    for number, node in enumerate(nodes):
        if node is None:
            continue
        if number:
            made = node.whole([values.get(value) for value in node.inputs], len(images))
        else:
            made = images.contiguous(memory_format=torch.channels_last)
        maps |= {key: _table(made, key[1]) for key in kept if key[0] == number}
        values.put(number, made)
    return Clean(maps, values.get(result))


def keys_of(nodes: Nodes, groups: Sequence[Group]) -> set[Key]:
    """The clean maps that some group needs."""
    keys = set()
    for group in groups:
        for number, node in enumerate(nodes):
            for value in node.inputs if node and number else ():
                before = group.regions[value.step]
                if node and before is not None and must_crop(node, before, group.regions[number]):
                    keys.add((value.step, fill_of(node, group.regions[number])))
    return keys


def fill_of(node: Node, after: Region | None) -> float:
    """What a node takes for the values outside of the map."""
    return node.layer.fill if isinstance(node.layer, Window) and after is not None and not after.whole else 0.0


def _table(made: Tensor, fill: float) -> Tensor:
    places = made.permute(0, 2, 3, 1).reshape(-1, made.shape[1])
    return torch.cat([places, places.new_full((1, places.shape[1]), fill)])


class Place(NamedTuple):
    """Where pieces of one size begin: the rows and the columns [n], perhaps outside of the map."""

    tops: Tensor
    lefts: Tensor
    size: tuple[int, int]


def pieces(table: Tensor, side: tuple[int, int], images: Tensor, place: Place) -> Tensor:
    """Pieces [n, height, width, channels] of the maps number `images` [n].

    `table` [maps * height * width + 1, channels] holds maps of size `side` and a last row for what lies outside.
    """
    rows, inside_rows = _numbers(place.tops, place.size[0], side[0])
    columns, inside_columns = _numbers(place.lefts, place.size[1], side[1])
    flat = (images[:, None] * side[0] + rows)[:, :, None] * side[1] + columns[:, None, :]
    outside = ~(inside_rows[:, :, None] & inside_columns[:, None, :])
    flat = flat.masked_fill_(outside, len(table) - 1)
    return table.index_select(0, flat.view(-1).to(table.device)).view(*flat.shape, table.shape[1])


def paste(into: Tensor, place: Place, patches: Tensor, tops: Tensor, lefts: Tensor) -> None:
    """Set `patches` [n, height, width, channels], which begin at `tops` and `lefts` of the map, into pieces at `place`.

    What does not lie in its piece is left out.
    """
    down, right = tops - place.tops, lefts - place.lefts
    if bool((down == down[0]).all()) and bool((right == right[0]).all()):
        rows, from_rows = _overlap(int(down[0]), patches.shape[1], into.shape[1])
        columns, from_columns = _overlap(int(right[0]), patches.shape[2], into.shape[2])
        into[:, rows, columns] = patches[:, from_rows, from_columns]
        return
    rows_at, inside_rows = _numbers(down, patches.shape[1], into.shape[1])
    columns_at, inside_columns = _numbers(right, patches.shape[2], into.shape[2])
    inside = (inside_rows[:, :, None] & inside_columns[:, None, :]).view(-1)
    first = torch.arange(len(into))[:, None] * into.shape[1]
    flat = ((first + rows_at)[:, :, None] * into.shape[2] + columns_at[:, None, :]).view(-1)
    source = patches.reshape(-1, patches.shape[3])
    if not bool(inside.all()):
        chosen = inside.nonzero()[:, 0]
        source, flat = source.index_select(0, chosen.to(source.device)), flat[chosen]
    into.view(-1, into.shape[3]).index_put_((flat.to(into.device),), source)


def _numbers(first: Tensor, count: int, length: int) -> tuple[Tensor, Tensor]:
    """(`count` indices from each first one [n, count], whether each is one of `length`)."""
    numbers = first[:, None] + torch.arange(count)
    return numbers, (numbers >= 0) & (numbers < length)


def _overlap(by: int, length: int, room: int) -> tuple[slice, slice]:
    """(where what begins at `by` lies in a room, which part of it lies there)."""
    start, stop = min(max(by, 0), room), max(0, min(by + length, room))
    stop = max(start, stop)
    return slice(start, stop), slice(start - by, stop - by)


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
