"""A recorded network as a list of local layers and of operations on whole maps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch

from seewhy.incremental.layers import Convolution, Joined, Layer, Pointwise, Window
from seewhy.incremental.recording import Record, Step, Value
from seewhy.incremental.rules import activation_of, in_place, layer_of, plain, scale_and_shift


@dataclass(frozen=True)
class Node:
    """One step of a network: a layer where it is local, and what it reads."""

    step: Step
    inputs: tuple[Value, ...]
    layer: Layer | None
    local: bool
    """Whether what it makes can be made for a part of the image."""
    shape: tuple[int, ...]
    """Of its first output, without the batch."""

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of its map."""
        return self.shape[1], self.shape[2]

    def whole(self, values: list[Any], images: int) -> Any:
        """The step on whole maps of that many images."""
        if isinstance(self.layer, Joined):
            return self.layer.apply(values)
        if isinstance(self.layer, Pointwise):
            return self.layer.apply(values[0])
        if self.layer is not None:
            return self.layer.whole(values[0])
        left = iter(values)
        return plain(self.step)(*self.step.arguments(images, lambda value: next(left)))


EXACT = (torch.float32, torch.float64)
"""Precisions in which folding a normalisation into the weights changes nothing but rounding."""

Nodes = list[Node | None]
"""A node for each step, None where another node does its work; the first stands for the images."""


def shape_read(nodes: Nodes, node: Node) -> tuple[int, ...]:
    """The shape of the first input, without the batch."""
    source = nodes[node.inputs[0].step] if node.inputs else None
    return source.shape if source is not None else ()


def nodes_of(record: Record) -> Nodes:
    """The nodes of a network, with normalisations and activations made a part of convolutions."""
    uses = Counter(value for step in record.steps for value in step.inputs)
    uses[record.result] += 1
    whole_outputs = {value.step for value in uses if value.output}
    made: list[Node | None] = [Node(record.steps[0], (), None, True, record.steps[0].shapes[0][1:])]
    kinds: list[Layer | Convolution | None] = [None]
    for number, step in enumerate(record.steps[1:], start=1):
        shapes = [record.steps[value.step].shapes[value.output] for value in step.inputs]
        kind = None if number in whole_outputs else layer_of(step, shapes)
        inputs = tuple(step.inputs)
        source = inputs[0].step if inputs else 0
        before, alone = kinds[source], len(inputs) == 1 and uses[inputs[0]] == 1
        joined = _joined(before, step) if isinstance(before, Convolution) and alone and kind is not None else None
        if joined is not None:
            kind, part = joined, made[source]
            assert part is not None, "the convolution was not joined with another step"
            inputs, made[source] = part.inputs, None
        elif isinstance(kind, Pointwise) and alone and isinstance(before, Convolution | Joined | Window):
            kind = in_place(step) or kind
        local = kind is not None and all(found is not None and found.local for found in (made[v.step] for v in inputs))
        kinds.append(kind)
        layer = kind.window() if isinstance(kind, Convolution) else kind
        made.append(Node(step, inputs, layer, local, step.shapes[0][1:] if step.shapes else ()))
    return made


def _joined(convolution: Convolution, step: Step) -> Convolution | None:
    """Both as one convolution; None where they cannot be."""
    if convolution.activation is not None:
        return None
    factors = scale_and_shift(step)
    if factors is not None:
        return convolution.folded(*factors) if convolution.weight.dtype in EXACT else None
    activation = activation_of(step)
    return None if activation is None else replace(convolution, activation=activation)
