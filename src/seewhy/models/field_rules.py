"""What each operator of torch does to receptive fields: the rules by which they are carried through a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seewhy.models.fusion.internals import read_schema
from seewhy.models.receptive_fields import (
    GLOBAL,
    PLACELESS,
    ReceptiveFields,
    join,
    multiply,
    resize,
    slide,
    slide_windows,
)

MOVES = frozenset(
    "permute transpose t unsqueeze squeeze expand select slice split split_with_sizes chunk unbind cat stack roll flip "
    "index index_select gather repeat pixel_unshuffle channel_shuffle im2col unfold narrow rot90 concat diagonal "
    "movedim swapaxes unsafe_split unsafe_chunk unsafe_split_with_sizes alias_copy repeat_interleave".split()
)
"""Operators that move elements and change none: they move the fields as well."""
VIEWS = frozenset("view _unsafe_view reshape _reshape_alias flatten unflatten view_as".split())
KEEPERS = frozenset(
    "clone contiguous _to_copy to detach alias lift_fresh dropout native_dropout _softmax _log_softmax softmax "
    "_safe_softmax log_softmax native_layer_norm native_batch_norm _native_batch_norm_legit "
    "_native_batch_norm_legit_no_training cudnn_batch_norm miopen_batch_norm batch_norm native_group_norm "
    "_fused_rms_norm rms_norm hardtanh hardswish hardsigmoid relu6 prelu _prelu_kernel elu celu selu leaky_relu gelu "
    "silu mish softplus relu sigmoid tanh threshold logit rrelu_with_noise masked_fill".split()
)
"""Operators whose first output looks where their first argument does: activations and normalisations."""
SUMS = frozenset(
    "mean sum amax amin max min linalg_vector_norm norm var std var_mean std_mean logsumexp prod nansum nanmean "
    "median argmax argmin aminmax".split()
)
PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2), "addbmm": (1, 2)}
CONVOLUTIONS = frozenset("convolution _convolution convolution_overrideable mkldnn_convolution".split())
POOLS = frozenset("max_pool2d_with_indices avg_pool2d max_pool2d mkldnn_max_pool2d max_pool1d avg_pool1d".split())
PADS = frozenset("constant_pad_nd reflection_pad2d replication_pad2d reflection_pad1d replication_pad1d pad".split())
RESIZES = ("adaptive_", "_adaptive_", "upsample_", "_upsample_")

Lookup = Callable[[Any], ReceptiveFields | None]


@dataclass(frozen=True)
class Call:
    """A call of an operator.

    Args:
        operator: The operator, an overload of torch.ops.
        name: Its name without namespace and the underscore of those that work in place.
        args: Its arguments.
        named: All arguments by name.
        shapes: Shapes of the tensors that it returned.
        lookup: The fields of a tensor, None where it holds nothing of the images.
    """

    operator: Any
    name: str
    args: Sequence[Any]
    named: dict[str, Any]
    shapes: list[torch.Size]
    lookup: Lookup

    @property
    def first(self) -> ReceptiveFields | None:
        """Fields of the first argument."""
        return self.lookup(self.args[0]) if self.args else None

    def read_sizes(self, name: str, axes: int, default: Any = None) -> list[int]:
        """Read an argument that is a number for all axes, or a list of numbers."""
        value = self.named.get(name)
        value = default if value is None or value == [] else value
        values = [value] if isinstance(value, int) else list(value)
        return values * axes if len(values) == 1 else values


def propagate(operator: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any, lookup: Lookup) -> Any:
    """Find where the outputs of an operator look.

    Args:
        operator: The operator, an overload of torch.ops.
        args: Its arguments.
        kwargs: Its arguments by name.
        result: What it returned.
        lookup: The fields of a tensor, None where it holds nothing of the images.

    Returns:
        Fields of each tensor in the result; nowhere for operators without a rule.
    """
    outputs = [result] if isinstance(result, Tensor) else [each for each in result if isinstance(each, Tensor)]
    schema = read_schema(operator)
    named = {argument.name: value for argument, value in zip(schema.arguments, args, strict=False)} | kwargs
    namespace, name = schema.name.split("::")
    call = Call(operator, name.removesuffix("_") or name, args, named, [each.shape for each in outputs], lookup)
    fields = _follow(call) if namespace == "aten" else []
    fields = fields + [None] * (len(outputs) - len(fields))
    return [
        each if each is not None and each.rows.shape == output.shape else ReceptiveFields.nowhere(output)
        for each, output in zip(fields, outputs, strict=True)
    ]


def _follow(call: Call) -> list[ReceptiveFields | None]:
    """Fields of the first outputs; none without a rule, or for arguments that the rule does not fit."""
    try:
        return _apply_rule(call) or []
    except (RuntimeError, LookupError, TypeError):
        return []


def _apply_rule(call: Call) -> list[ReceptiveFields | None] | None:
    """Fields of the first outputs; None without a rule."""
    first, name, shape = call.first, call.name, call.shapes[0]
    if name == "copy":
        source = call.lookup(call.args[1])
        return None if source is None else [source.expand(shape)]
    if name in MOVES:
        return _move(call)
    if name in PRODUCTS:
        left, right = (call.lookup(call.args[number]) for number in PRODUCTS[name])
        return None if left is None and right is None else [multiply(left, right, shape)]
    if name in KEEPERS and (first is None or first.rows.shape == shape):
        return [first]
    if torch.Tag.pointwise in call.operator.tags:
        operands = [fields for each in call.named.values() if (fields := call.lookup(each)) is not None]
        return [join(operands, shape)] if operands else None
    return None if first is None else _combine(call, first)


def _combine(call: Call, first: ReceptiveFields) -> list[ReceptiveFields | None] | None:
    """Fields of what operators make of several elements of their first argument; None without a rule."""
    name, shape = call.name, call.shapes[0]
    if name in VIEWS:
        return [first.each(lambda values: values.reshape(shape))]
    if name in SUMS:
        return _sum(call, first)
    if name in CONVOLUTIONS or name in POOLS:
        return [_slide_kernel(call, first)]
    if name in PADS:
        return [_pad(call, first).expand(shape)]
    if name.startswith(RESIZES) and len(shape) == first.rows.ndim:
        return [resize(first, shape, len(shape) - 2, bool(call.named.get("align_corners")))]
    if name.startswith("_scaled_dot_product"):
        query = first.contract([-1])
        extent = torch.where(query.extent.isinf(), query.extent, GLOBAL)
        return [ReceptiveFields(query.rows, query.columns, extent, query.image).expand(shape)]
    return None


def _pad(call: Call, first: ReceptiveFields) -> ReceptiveFields:
    """Fields of a padded tensor: an even axis goes on beyond its ends; what stands before tokens looks nowhere."""
    shape = call.shapes[0]
    for number, before in enumerate((call.named.get("pad") or call.named["padding"])[::2]):
        axis = len(shape) - 1 - number
        index = torch.arange(shape[axis], device=first.rows.device) - before
        is_even = first.is_even(axis)
        inside = (index >= 0) & (index < first.rows.shape[axis])
        first = slide(first, axis, index.float())
        if not is_even:
            outside = ~inside.view([-1 if axis == each else 1 for each in range(len(shape))])
            first = replace(first, extent=torch.where(outside, PLACELESS, first.extent))
    return first


def _sum(call: Call, first: ReceptiveFields) -> list[ReceptiveFields | None]:
    axes, count = call.named.get("dim"), first.rows.ndim
    axes = list(range(count)) if axes is None or axes == [] else [axes] if isinstance(axes, int) else list(axes)
    axes = [axis % count for axis in axes] if count else []
    kept = [1 if axis in axes else size for axis, size in enumerate(first.rows.shape)]
    reduced = first.contract(axes).expand(kept)
    return [reduced.each(lambda values: values.reshape(call.shapes[0]))] * len(call.shapes)


def _slide_kernel(call: Call, first: ReceptiveFields) -> ReceptiveFields:
    """Fields of a convolution or of pooling."""
    shape = call.shapes[0]
    if call.name in POOLS:
        axes = 1 if call.name.endswith("1d") else 2
        kernel = call.read_sizes("kernel_size", axes)
        stride = call.read_sizes("stride", axes, kernel)
    else:
        axes = len(shape) - 2
        kernel, first = list(call.named["weight"].shape[2:]), first.contract([1])
        stride = call.read_sizes("stride", axes)
    padding, dilation = call.read_sizes("padding", axes, 0), call.read_sizes("dilation", axes, 1)
    transposed = bool(call.named.get("transposed", False))
    return slide_windows(
        first, shape, kernel=kernel, stride=stride, padding=padding, dilation=dilation, transposed=transposed
    )


def _move(call: Call) -> list[ReceptiveFields | None] | None:
    """Apply the operator to the fields as it was applied to the values."""
    arguments = read_schema(call.operator).arguments[1:]
    rest = {argument.name: call.named[argument.name] for argument in arguments if argument.name in call.named}
    moved: list[Any]
    if isinstance(call.args[0], list | tuple):
        sources = [call.lookup(each) or ReceptiveFields.nowhere(each) for each in call.args[0]]
        moved = [call.operator(list(planes), **rest) for planes in zip(*(each.planes for each in sources), strict=True)]
    elif call.first is not None:
        moved = [call.operator(plane, **rest) for plane in call.first.planes]
    else:
        return None
    if isinstance(moved[0], Tensor):
        return [ReceptiveFields(*moved)]
    return [ReceptiveFields(*planes) for planes in zip(*moved, strict=True)]
