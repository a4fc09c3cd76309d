"""Which recorded operations are local layers, and which need the whole map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.incremental.layers import Convolution, Joined, Layer, Moved, Pointwise
from seewhy.incremental.pooling import average_pool, max_pool
from seewhy.incremental.recording import Step, Value
from seewhy.models import fused_convolution
from seewhy.models.fused_convolution import Activation

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
    found = fused_convolution.activation_of(module(*numbers))
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
        return _joined(step) if step.arguments(1)[1:2] == (1,) else None
    if name in POINTWISE and all(_same_everywhere(leaf) for leaf in step.leaves):
        return _joined(step) if len(shapes) > 1 else Pointwise(lambda images: _joined(step).apply([images]))
    return None


def _same_everywhere(leaf: Any) -> bool:
    return not isinstance(leaf, Tensor) or leaf.ndim == 0 or (leaf.ndim in (3, 4) and leaf.shape[-2:] == (1, 1))


def _joined(step: Step) -> Joined:
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
