"""A recorded network as a list of local layers and of operations on whole maps.

Which recorded operations are local layers, and which need the whole map.
What the nodes of a network have made so far, forgotten as soon as nothing reads it any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.explainers._incremental.layers import (
    Convolution,
    Joined,
    Layer,
    Moved,
    Pointwise,
    Window,
    average_pool,
    max_pool,
)
from seewhy.explainers._incremental.recording import Record, Step, Value
from seewhy.models.fusion import fused_convolution
from seewhy.models.fusion.fused_convolution import Activation

POINTWISE = frozenset(
    "relu relu6 hardtanh silu hardswish hardsigmoid sigmoid tanh gelu elu leaky_relu softplus mish clamp clamp_min "
    "clamp_max abs neg exp sqrt square pow add sub rsub mul div maximum minimum clone alias detach _to_copy".split()
)
MODULES = {"relu": nn.ReLU, "hardtanh": nn.Hardtanh, "hardswish": nn.Hardswish, "silu": nn.SiLU}
"""Activations by the names of their operations."""
NORMALISATION = {"native_batch_norm": 7, "cudnn_batch_norm": 7, "_native_batch_norm_legit_no_training": 6}
"""Batch normalisation by name, and where its epsilon stands among the arguments."""


def name_of(step: Step) -> str:
    """The operation's name without overload; an operation in place has the name of the plain one."""
    name: str = step.operation._schema.name.removeprefix("aten::")
    return name.rstrip("_") if name.endswith("_") and not name.endswith("__") else name


def plain(step: Step) -> Callable[..., Any]:
    """The operation itself, on new memory; `view` on any memory layout."""
    name = name_of(step)
    if name in ("view", "_unsafe_view"):
        return lambda images, shape, _: images.reshape(shape)
    operation = step.operation
    if operation._schema.is_mutable:
        operation = getattr(getattr(torch.ops.aten, name), operation._overloadname)
    return lambda *arguments: operation(*arguments[:-1], **arguments[-1])


def in_place(step: Step) -> Pointwise | None:
    """The pointwise step, written over its input; None where the operation has no such form."""
    packet = getattr(torch.ops.aten, f"{name_of(step)}_", None)
    if packet is None or step.operation._overloadname not in packet.overloads():
        return None
    operation = getattr(packet, step.operation._overloadname)

    def apply(images: Tensor) -> Tensor:
        *positional, keywords = step.arguments(len(images), lambda value: images)
        return operation(*positional, **keywords)

    return Pointwise(apply)


def activation_of(step: Step) -> tuple[Activation, Pointwise] | None:
    """The activation that a step is, where a convolution can compute it, and the step over its input."""
    alone = in_place(step)
    module = MODULES.get(name_of(step))
    numbers = step.arguments(1)[1:-1]
    if alone is None or module is None or any(isinstance(number, Value | Tensor) for number in numbers):
        return None
    found = fused_convolution.read_activation(module(*numbers))
    return None if found is None else (found, alone)


def layer_of(step: Step, shapes: list[tuple[int, ...]]) -> Layer | Convolution | None:
    """The local layer that a step is, given the shapes of its values; None where it needs whole maps.

    Only the first output is made. Constants among the arguments may differ between channels but not between places.
    """
    shape, name = step.shapes[0], name_of(step)
    maps = [found for found in (*shapes, shape) if len(found) == 4 and found[0] == 2]
    if len(maps) != len(shapes) + 1:
        return None
    if name == "convolution":
        return _convolution(step)
    if name in ("max_pool2d_with_indices", "max_pool2d"):
        return max_pool(step)
    if name in ("avg_pool2d", "_adaptive_avg_pool2d"):
        return average_pool(step, shapes[0], shape)
    if name == "constant_pad_nd":
        return _padding(step)
    if len({found[2:] for found in maps}) > 1:
        return None
    if name in NORMALISATION:
        return _normalisation(step)
    if name == "cat":
        return _joined_by_rule(step) if step.arguments(1)[1:2] == (1,) else None
    if name in POINTWISE and all(_same_everywhere(leaf) for leaf in step.leaves):
        return (
            _joined_by_rule(step)
            if len(shapes) > 1
            else Pointwise(lambda images: _joined_by_rule(step).apply([images]))
        )
    return None


def _same_everywhere(leaf: Any) -> bool:
    return not isinstance(leaf, Tensor) or leaf.ndim == 0 or (leaf.ndim in (3, 4) and leaf.shape[-2:] == (1, 1))


def _joined_by_rule(step: Step) -> Joined:
    operation, values = plain(step), step.inputs

    def apply(images: list[Tensor]) -> Tensor:
        left = iter(images)
        return operation(*step.arguments(len(images[0]), lambda value: next(left)))

    assert values, "a step has an input"
    return Joined(apply)


def _convolution(step: Step) -> Convolution | None:
    _, weight, bias, stride, padding, dilation, transposed, _, groups = step.arguments(1)[:9]
    if transposed or isinstance(weight, Value) or isinstance(bias, Value):
        return None
    return Convolution(weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)


def scale_and_shift(step: Step) -> tuple[Tensor, Tensor] | None:
    """(scale, shift) [channels] in double precision of a normalisation with fixed statistics; None for other steps."""
    place = NORMALISATION.get(name_of(step))
    if place is None:
        return None
    arguments = step.arguments(1)
    weight, bias, mean, variance = arguments[1:5]
    if any(isinstance(given, Value) for given in (weight, bias, mean, variance)) or mean is None:
        return None
    if place == 7 and arguments[5]:
        return None
    scale = (variance.double() + arguments[place]).rsqrt()
    scale = scale if weight is None else scale * weight.double()
    return scale, -mean.double() * scale + (0 if bias is None else bias.double())


def _normalisation(step: Step) -> Pointwise | None:
    factors = scale_and_shift(step)
    if factors is None:
        return None
    scale, shift = (factor.view(-1, 1, 1) for factor in factors)
    return Pointwise(lambda images: torch.addcmul(shift.to(images), images, scale.to(images)))


def _padding(step: Step) -> Moved | None:
    images, sides = step.arguments(1)[:2]
    if len(sides) != 4 or min(sides) < 0 or not isinstance(images, Value):
        return None
    return Moved(sides[2], sides[0], lambda images: plain(step)(*step.arguments(1, lambda value: images)))


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


class Values:
    """The outputs of nodes while a network runs."""

    def __init__(self, nodes: Nodes, result: Value) -> None:
        self._made: dict[int, Any] = {}
        last: dict[int, int] = {}
        for number, node in enumerate(nodes):
            if node is not None:
                last |= {number: number} | {value.step: number for value in node.inputs}
        last.pop(result.step)
        self._gone: dict[int, list[int]] = {}
        for number, reader in last.items():
            self._gone.setdefault(reader, []).append(number)

    def put(self, number: int, made: Any) -> None:
        """Keep what node `number` made, and forget what nothing after it reads."""
        self._made[number] = made
        for gone in self._gone.get(number, ()):
            del self._made[gone]

    def get(self, value: Value) -> Any:
        """One output of a node."""
        made = self._made[value.step]
        return made[value.output] if isinstance(made, tuple | list) else made
