"""A recorded network as nodes: local layers, whose output can be computed for a part of the image, and other operations.

`find_layer` recognises the local layers among the recorded operations; normalisations and activations that follow a
convolution are fused into it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.explainers._incremental.layers import (
    Combined,
    Convolution,
    Layer,
    Padded,
    Pointwise,
    SlidingWindow,
    build_average_pool,
    build_max_pool,
)
from seewhy.explainers._incremental.recording import Recording, Step, Value
from seewhy.models.fusion.convolution import Activation, read_activation
from seewhy.models.fusion.internals import find_overload, read_schema

POINTWISE = frozenset(
    "relu relu6 hardtanh silu hardswish hardsigmoid sigmoid tanh gelu elu leaky_relu softplus mish clamp clamp_min "
    "clamp_max abs neg exp sqrt square pow add sub rsub mul div maximum minimum clone alias detach _to_copy".split()
)
MODULES = {"relu": nn.ReLU, "hardtanh": nn.Hardtanh, "hardswish": nn.Hardswish, "silu": nn.SiLU}
"""Activations by the names of their operations."""
NORMALISATION = {"native_batch_norm": 7, "cudnn_batch_norm": 7, "_native_batch_norm_legit_no_training": 6}
"""Batch normalisation by name, and the position of its epsilon among the arguments."""
EXACT = (torch.float32, torch.float64)
"""Precisions in which folding a normalisation into the weights changes nothing but rounding."""


@dataclass(frozen=True)
class Node:
    """One step of a network: its layer where it is local, and what it reads."""

    step: Step
    inputs: tuple[Value, ...]
    layer: Layer | None
    local: bool
    """Whether its output can be computed for a part of the image."""
    shape: tuple[int, ...]
    """Of its first output, without the batch."""

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of its map."""
        return self.shape[1], self.shape[2]

    def run(self, values: list[Any], images: int) -> Any:
        """Run the step on whole maps of that many images."""
        if isinstance(self.layer, Combined):
            return self.layer.run(values)
        if self.layer is not None:
            return self.layer.run(values[0])
        inputs = iter(values)
        return _find_function(self.step)(*self.step.arguments(images, lambda value: next(inputs)))


Nodes = list[Node | None]
"""A node for each step, None where another node does its work; the first stands for the images."""


def build_nodes(recording: Recording) -> Nodes:
    """The nodes of a network, with normalisations and activations fused into convolutions."""
    uses = Counter(value for step in recording.steps for value in step.inputs)
    uses[recording.result] += 1
    several_outputs = {value.step for value in uses if value.output}
    nodes: Nodes = [Node(recording.steps[0], (), None, True, recording.steps[0].shapes[0][1:])]
    layers: list[Layer | Convolution | None] = [None]
    for number, step in enumerate(recording.steps[1:], start=1):
        shapes = [recording.steps[value.step].shapes[value.output] for value in step.inputs]
        layer = None if number in several_outputs else find_layer(step, shapes)
        inputs = tuple(step.inputs)
        source = inputs[0].step if inputs else 0
        before, alone = layers[source], len(inputs) == 1 and uses[inputs[0]] == 1
        fused = _fuse(before, step) if isinstance(before, Convolution) and alone and layer is not None else None
        if fused is not None:
            layer, convolution = fused, nodes[source]
            assert convolution is not None, "the convolution was not fused with another step"
            inputs, nodes[source] = convolution.inputs, None
        elif isinstance(layer, Pointwise) and alone and isinstance(before, Convolution | Combined | SlidingWindow):
            layer = _build_in_place(step) or layer
        local = layer is not None and all(node is not None and node.local for node in (nodes[v.step] for v in inputs))
        layers.append(layer)
        built = layer.build_layer() if isinstance(layer, Convolution) else layer
        nodes.append(Node(step, inputs, built, local, step.shapes[0][1:] if step.shapes else ()))
    return nodes


def find_input_shape(nodes: Nodes, node: Node) -> tuple[int, ...]:
    """The shape of a node's first input, without the batch."""
    source = nodes[node.inputs[0].step] if node.inputs else None
    return source.shape if source is not None else ()


def find_layer(step: Step, shapes: list[tuple[int, ...]]) -> Layer | Convolution | None:
    """Recognise the local layer that a step is.

    Only the first output of a layer is computed. Constants among the arguments may differ between channels but not
    between positions.

    Args:
        step: The recorded operation.
        shapes: Shapes of its input values for two images.

    Returns:
        The layer, or None where the step needs whole maps.
    """
    shape, name = step.shapes[0], _find_name(step)
    maps = [each for each in (*shapes, shape) if len(each) == 4 and each[0] == 2]
    if len(maps) != len(shapes) + 1:
        return None
    if name == "convolution":
        return _build_convolution(step)
    if name in ("max_pool2d_with_indices", "max_pool2d"):
        return build_max_pool(step)
    if name in ("avg_pool2d", "_adaptive_avg_pool2d"):
        return build_average_pool(step, shapes[0], shape)
    if name == "constant_pad_nd":
        return _build_padding(step)
    if len({each[2:] for each in maps}) > 1:
        return None
    if name in NORMALISATION:
        return _build_normalisation(step)
    if name == "cat":
        return _build_combined(step) if step.arguments(1)[1:2] == (1,) else None
    if name in POINTWISE and all(_is_uniform(leaf) for leaf in step.leaves):
        combined = _build_combined(step)
        return combined if len(shapes) > 1 else Pointwise(lambda images: combined.run([images]))
    return None


def _find_name(step: Step) -> str:
    """The operation's name without overload; an operation in place has the name of the plain one."""
    name: str = read_schema(step.operation).name.removeprefix("aten::")
    return name.rstrip("_") if name.endswith("_") and not name.endswith("__") else name


def _find_function(step: Step) -> Callable[..., Any]:
    """The operation itself, on new memory; `view` on any memory layout."""
    name = _find_name(step)
    if name in ("view", "_unsafe_view"):
        return lambda images, shape, _: images.reshape(shape)
    operation = step.operation
    if read_schema(operation).is_mutable:
        operation = find_overload(getattr(torch.ops.aten, name), operation)
    return lambda *arguments: operation(*arguments[:-1], **arguments[-1])


def _is_uniform(leaf: Any) -> bool:
    """Whether an argument is the same at every position of a map."""
    return not isinstance(leaf, Tensor) or leaf.ndim == 0 or (leaf.ndim in (3, 4) and leaf.shape[-2:] == (1, 1))


def _build_combined(step: Step) -> Combined:
    operation = _find_function(step)
    assert step.inputs, "a step has an input"

    def run(images: list[Tensor]) -> Tensor:
        inputs = iter(images)
        maps: Tensor = operation(*step.arguments(len(images[0]), lambda value: next(inputs)))
        return maps

    return Combined(run)


def _build_convolution(step: Step) -> Convolution | None:
    _, weight, bias, stride, padding, dilation, transposed, _, groups = step.arguments(1)[:9]
    if transposed or isinstance(weight, Value) or isinstance(bias, Value):
        return None
    return Convolution(weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)


def _build_normalisation(step: Step) -> Pointwise | None:
    factors = _compute_scale_and_shift(step)
    if factors is None:
        return None
    scale, shift = (factor.view(-1, 1, 1) for factor in factors)
    return Pointwise(lambda images: torch.addcmul(shift.to(images), images, scale.to(images)))


def _build_padding(step: Step) -> Padded | None:
    images, sides = step.arguments(1)[:2]
    if len(sides) != 4 or min(sides) < 0 or not isinstance(images, Value):
        return None
    return Padded(sides[2], sides[0], lambda images: _find_function(step)(*step.arguments(1, lambda value: images)))


def _fuse(convolution: Convolution, step: Step) -> Convolution | None:
    """A convolution and the step behind it as one; None where they cannot be."""
    if convolution.activation is not None:
        return None
    factors = _compute_scale_and_shift(step)
    if factors is not None:
        return convolution.fold(*factors) if convolution.weight.dtype in EXACT else None
    activation = _build_activation(step)
    return None if activation is None else replace(convolution, activation=activation)


def _compute_scale_and_shift(step: Step) -> tuple[Tensor, Tensor] | None:
    """(scale, shift) [channels] in double precision of a normalisation with fixed statistics; None for other steps."""
    epsilon = NORMALISATION.get(_find_name(step))
    if epsilon is None:
        return None
    arguments = step.arguments(1)
    weight, bias, mean, variance = arguments[1:5]
    if any(isinstance(each, Value) for each in (weight, bias, mean, variance)) or mean is None:
        return None
    if epsilon == 7 and arguments[5]:
        return None
    scale = (variance.double() + arguments[epsilon]).rsqrt()
    scale = scale if weight is None else scale * weight.double()
    return scale, -mean.double() * scale + (0 if bias is None else bias.double())


def _build_activation(step: Step) -> tuple[Activation, Pointwise] | None:
    """The activation that a step is, where a convolution can compute it, and the step over its input."""
    in_place = _build_in_place(step)
    module = MODULES.get(_find_name(step))
    numbers = step.arguments(1)[1:-1]
    if in_place is None or module is None or any(isinstance(number, Value | Tensor) for number in numbers):
        return None
    activation = read_activation(module(*numbers))
    return None if activation is None else (activation, in_place)


def _build_in_place(step: Step) -> Pointwise | None:
    """The pointwise step, written over its input; None where the operation has no such form."""
    packet = getattr(torch.ops.aten, f"{_find_name(step)}_", None)
    operation = None if packet is None else find_overload(packet, step.operation)
    if operation is None:
        return None

    def run(images: Tensor) -> Tensor:
        *positional, keywords = step.arguments(len(images), lambda value: images)
        maps: Tensor = operation(*positional, **keywords)
        return maps

    return Pointwise(run)
