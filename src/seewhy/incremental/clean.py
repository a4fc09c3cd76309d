"""The pass over the clean images, and what it keeps for patches to be set into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.incremental.layers import Window
from seewhy.incremental.nodes import Node, Nodes
from seewhy.incremental.plan import Group
from seewhy.incremental.recording import Value
from seewhy.incremental.region import Region, must_crop
from seewhy.incremental.values import Values

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
