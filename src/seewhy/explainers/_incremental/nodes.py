"""A recorded network as nodes: local layers, whose output can be computed for a part of the image, and others.

`find_layer` recognises the local layers among the recorded operations; normalisations and activations that follow a
convolution are fused into it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seewhy.explainers._incremental.recording import ReceptiveField, Recording, Step, Value
from seewhy.models.fusion.convolution import Activation, can_fuse, convolve_activated, read_activation
from seewhy.models.fusion.internals import find_overload, read_schema


@dataclass(frozen=True)
class Pointwise:
    """Each position by itself: activations, normalisation with fixed statistics, sums with constants, copies."""

    run: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SlidingWindow:
    """A convolution or pooling: each output sees a window of the inputs; outside of the map, inputs count as `fill`."""

    fields: tuple[ReceptiveField, ReceptiveField]
    """Along the rows and along the columns."""
    fill: float
    run_unpadded: Callable[[Tensor], Tensor]
    """The layer without padding, on inputs that hold all that the outputs see."""
    run: Callable[[Tensor], Tensor]
    """The layer on whole maps."""
    inputs_per_output: int
    """How many inputs each output value adds up or compares."""
    weighted: bool = False
    """Whether they are multiplied with weights."""

    @property
    def sees_neighbours(self) -> bool:
        """Whether outputs see more than the input at their own position."""
        return any((field.kernel, field.stride, field.padding) != (1, 1, 0) for field in self.fields)


@dataclass(frozen=True)
class Padded:
    """A constant border around the map: every position keeps its value and gets new coordinates."""

    top: int
    left: int
    run: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Combined:
    """Several maps of one size, position by position: sums, products, concatenated channels."""

    run: Callable[[list[Tensor]], Tensor]


Layer = Pointwise | SlidingWindow | Padded | Combined


@dataclass(frozen=True)
class Convolution:
    """A convolution, into which a normalisation with fixed statistics and then an activation can be fused."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    activation: tuple[Activation, Pointwise] | None = None
    """As one operation with the convolution, and by itself where that cannot be."""

    def build_layer(self) -> SlidingWindow:
        """The convolution as a layer."""
        weight = self.weight.contiguous(memory_format=torch.channels_last)
        geometry = list(self.stride), list(self.dilation), self.groups

        def convolve(images: Tensor, padding: tuple[int, int]) -> Tensor:
            if self.activation is not None and can_fuse(images, weight, self.activation[0]):
                return convolve_activated(images, weight, self.bias, (list(padding), *geometry), self.activation[0])
            maps = functional.conv2d(images, weight, self.bias, self.stride, padding, self.dilation, self.groups)
            return maps if self.activation is None else self.activation[1].run(maps)

        kernel = self.weight.shape[2:]
        rows, columns = (
            ReceptiveField(*axis) for axis in zip(kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        return SlidingWindow(
            (rows, columns),
            0.0,
            lambda images: convolve(images, (0, 0)),
            lambda images: convolve(images, self.padding),
            math.prod(self.weight.shape[1:]),
            weighted=True,
        )

    def fold(self, scale: Tensor, shift: Tensor) -> Convolution:
        """The convolution followed by scale * x + shift for each channel."""
        weight = (self.weight.double() * scale.view(-1, 1, 1, 1)).to(self.weight)
        bias = shift if self.bias is None else self.bias.double() * scale + shift
        return replace(self, weight=weight, bias=bias.to(self.weight))


def build_max_pool(step: Step) -> SlidingWindow:
    """Maximum over a window."""
    _, kernel, stride, padding, dilation, ceil_mode = _read_pool_arguments(step, [1, 1], False)
    return SlidingWindow(
        _build_fields(kernel, stride or kernel, padding, dilation),
        -math.inf,
        lambda images: functional.max_pool2d(images, kernel, stride or kernel, 0, dilation),
        lambda images: functional.max_pool2d(images, kernel, stride or kernel, padding, dilation, ceil_mode),
        math.prod(kernel),
    )


def build_average_pool(step: Step, before: tuple[int, ...], after: tuple[int, ...]) -> SlidingWindow | None:
    """Pooling whose divisor is the same at every position; an adaptive one where the sides divide."""
    if "adaptive" in str(step.operation):
        if before[2] % after[2] or before[3] % after[3]:
            return None
        kernel = stride = [before[2] // after[2], before[3] // after[3]]
        padding = [0, 0]
    else:
        _, kernel, stride, padding, ceil_mode, count_padding, *divisor = _read_pool_arguments(step, False, True)
        if ceil_mode or any(number is not None for number in divisor) or (any(padding) and not count_padding):
            return None
    return SlidingWindow(
        _build_fields(kernel, stride or kernel, padding, [1, 1]),
        0.0,
        lambda images: functional.avg_pool2d(images, kernel, stride or kernel),
        lambda images: functional.avg_pool2d(images, kernel, stride or kernel, padding),
        math.prod(kernel),
    )


def _read_pool_arguments(step: Step, *last: Any) -> list[Any]:
    """Images, kernel, stride, padding and two more; what a recording leaves out has its default."""
    arguments = list(step.arguments(1)[:-1])
    return arguments + [[], [0, 0], *last][len(arguments) - 2 :]


def _build_fields(*sizes: list[int]) -> tuple[ReceptiveField, ReceptiveField]:
    pairs = [(size[0], size[-1]) for size in sizes]
    rows, columns = (ReceptiveField(*axis) for axis in zip(*pairs, strict=True))
    return rows, columns


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
