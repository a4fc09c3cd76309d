"""A convolution with its activation as one operation of oneDNN, and a gradient that needs its result alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from seewhy.core.precision import find_narrow_type
from seewhy.core.tensors import compute_in_blocks
from seewhy.models.fusion.internals import is_fusion_supported, is_observed

AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
"""Whether this build of torch has the activated convolution of oneDNN."""
Geometry = tuple[list[int], list[int], list[int], int]
"""Padding, stride, dilation and groups of a convolution."""


@dataclass(frozen=True)
class Activation:
    """An elementwise function that oneDNN can compute together with a convolution."""

    name: str
    """As oneDNN calls it."""
    numbers: tuple[float, ...] = ()
    """Its parameters, in oneDNN's order."""
    backward: Callable[[Tensor, Tensor], Tensor] | None = None
    """backward(signal, result) is the signal of its argument, where its derivative follows from its result alone."""
    high: float | None = None
    """The upper bound of a rectifier min(max(x, 0), high), infinite for ReLU; None for other functions."""


def read_activation(module: nn.Module | None) -> Activation | None:
    """Read which activation a module computes.

    A number that was cut off at a bound is not strictly between the bounds, before and after: the derivative of the
    rectifiers, with 0 at the bounds as torch takes it, follows from their result.

    Args:
        module: Any module; only exact types of torch count, since a subclass may compute something else.

    Returns:
        The activation, None where oneDNN has none for the module.
    """
    kind = f"{type(module).__module__}.{type(module).__qualname__}".removeprefix("torch.nn.modules.activation.")
    if kind == "ReLU":
        return Activation("relu", (), _above_zero, math.inf)
    if kind in ("ReLU6", "Hardtanh"):
        low, high = float(module.min_val), float(module.max_val)  # type: ignore[union-attr,arg-type]
        return Activation("hardtanh", (low, high), partial(_between, low, high), high if low == 0 < high else None)
    return {"Hardswish": Activation("hardswish"), "SiLU": Activation("swish")}.get(kind)


def _above_zero(signal: Tensor, result: Tensor) -> Tensor:
    gradient: Tensor = torch.ops.aten.threshold_backward(signal, result, 0)
    return gradient


def _between(low: float, high: float, signal: Tensor, result: Tensor) -> Tensor:
    gradient: Tensor = torch.ops.aten.hardtanh_backward(signal, result, low, high)
    return gradient


def is_fusible(module: nn.Conv2d) -> bool:
    """Tell whether `convolve_fused` can compute the geometry of a convolution: zeros around the map, in numbers."""
    named = type(module).__name__ == "Conv2dSame" or isinstance(module.padding, tuple)
    return named and module.padding_mode == "zeros"


def can_fuse(values: Tensor, weight: Tensor, activation: Activation) -> bool:
    """Tell whether an activated convolution can be computed here and now.

    It is where fusion is on (`is_fusion_supported`), the values are float32 on the CPU, or bfloat16 while autocast computes
    in it, their gradient, if one is asked for, can be computed, and nobody looks at the single operations.

    Args:
        values: Input [n, channels, height, width].
        weight: Weight of the convolution.
        activation: What follows it. A function mode that can do without seeing it has a method `knows_fused`.

    Returns:
        True where `convolve_activated` gives the values of convolution and activation.
    """
    return bool(
        values.device.type == "cpu"
        and values.dtype == weight.dtype == (find_narrow_type("cpu") or torch.float32)
        and (values.dtype == torch.float32 or (values.dtype == torch.bfloat16 and _has_bfloat16()))
        and values.ndim == 4
        and values.numel() > 0
        and (activation.backward is not None or not (values.requires_grad and torch.is_grad_enabled()))
        and AVAILABLE
        and is_fusion_supported()
        and torch.backends.mkldnn.enabled
        and not is_observed("knows_fused", activation)
    )


@functools.cache
def _has_bfloat16() -> bool:
    """Whether oneDNN convolves in bfloat16 on this processor."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def convolve_fused(
    module: nn.Conv2d, parameters: Mapping[str, Tensor | None], values: Tensor, activation: Activation
) -> Tensor:
    """Compute activation(convolution(values)) in one operation.

    Args:
        module: The convolution, whose geometry is taken; see `is_fusible`.
        parameters: Its `weight` and `bias`, such as those of a normalisation that was folded into it.
        values: Input [n, channels, height, width]; see `can_fuse`.
        activation: What follows the convolution.

    Returns:
        The activated values [n, channels, rows, columns], in the memory order that the convolution would give them.
    """
    weight, bias = parameters["weight"], parameters["bias"]
    assert weight is not None, "a convolution has weights"
    edges = [_edge(module, axis, values.shape[2 + axis]) for axis in (0, 1)]
    cut = [edge.cut for edge in edges]
    if any(cut) and math.prod(values.shape[1:]) < len(weight) * math.prod(edge.results for edge in edges):
        values = functional.pad(values, [*edges[1].sides, *edges[0].sides])
        padding, cut = [0, 0], [0, 0]
    else:
        padding = [edge.padding for edge in edges]
    geometry = padding, list(module.stride), list(module.dilation), module.groups
    if values.requires_grad and torch.is_grad_enabled():
        result: Tensor = _Fused.apply(values, weight, bias, geometry, activation)
    else:
        result = convolve_activated(values, weight, bias, geometry, activation)
    if not any(cut):
        return result
    rows, columns = (slice(edge.cut, edge.cut + edge.results) for edge in edges)
    order = torch.contiguous_format if result.is_contiguous() else torch.channels_last
    return result[:, :, rows, columns].contiguous(memory_format=order)


class _Edge(NamedTuple):
    """How a convolution treats the border along one side of a map.

    oneDNN adds as much on both sides. Where one side needs more, so much is added on both that `cut` results come
    before the first one that is wanted; the alternative is to copy the map into a larger one with `sides` around it.
    """

    padding: int
    cut: int
    results: int
    sides: tuple[int, int]


def _edge(module: nn.Conv2d, axis: int, length: int) -> _Edge:
    if type(module).__name__ != "Conv2dSame":
        return _Edge(module.padding[axis], 0, 0, (0, 0))  # type: ignore[arg-type]
    stride, results = module.stride[axis], math.ceil(length / module.stride[axis])
    reach = (module.kernel_size[axis] - 1) * module.dilation[axis] + 1
    total = max(0, (results - 1) * stride + reach - length)
    before, after = total // 2, total - total // 2
    cut = math.ceil((after - before) / stride)
    return _Edge(before + cut * stride, cut, results, (before, after))


def convolve_activated(
    values: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, activation: Activation
) -> Tensor:
    """Compute activation(weight * values + bias) without a gradient.

    Args:
        values: Input [n, channels, height, width]; see `can_fuse`.
        weight: Weight of the convolution.
        bias: Its bias, None for none.
        geometry: Padding, stride, dilation and groups.
        activation: What follows it.

    Returns:
        The activated values [n, channels, rows, columns].
    """
    options = (*geometry, activation.name, activation.numbers, "")
    with torch._C.DisableTorchFunction():
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(values, weight, bias, *options)
    return result


class FusedRectifier:
    """The rectifier inside of a fused convolution, reached from its node in the graph as `step`.

    Attributes:
        rule: rule(out, signal, result, high) writes what is passed back in place of the gradient, where it is set.

    Args:
        name: The activation as oneDNN calls it.
        high: Its upper bound.
    """

    def __init__(self, name: str, high: float) -> None:
        self.name = name
        self.high = high
        self.rule: Callable[[Tensor, Tensor, Tensor, float], None] | None = None

    def backward(self, signal: Tensor, result: Tensor) -> Tensor:
        """Apply the rule, block by block.

        Args:
            signal: Signal of the result.
            result: The rectified values, of the same shape.

        Returns:
            The signal of the rectifier's argument.
        """
        passed = torch.empty_like(result)
        rule = self.rule
        assert rule is not None, "without a rule the gradient is passed back"

        def compute(out: Tensor, signal: Tensor, result: Tensor) -> None:
            rule(out, signal, result, self.high)

        compute_in_blocks(compute, passed, signal, result)
        return passed


class _Fused(torch.autograd.Function):
    """Keeps the values and the result, which the next layer keeps anyway: nothing between the two."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, activation: Activation
    ) -> Tensor:
        """Compute the result."""
        result = convolve_activated(values, weight, bias, geometry, activation)
        ctx.save_for_backward(values, weight, result)
        ctx.geometry, ctx.activation = geometry, activation
        ctx.step = None if activation.high is None else FusedRectifier(activation.name, activation.high)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradient of the values alone: the parameters are constants."""
        values, weight, result = ctx.saved_tensors
        padding, stride, dilation, groups = ctx.geometry
        changed = ctx.step is not None and ctx.step.rule is not None
        signal = (ctx.step if changed else ctx.activation).backward(signals[0], result)
        geometry = stride, padding, dilation, False, [0, 0], groups
        if groups > 1 and max(stride) > 1 and signal.dtype == torch.bfloat16:
            # oneDNN has no fast way back through these: up to 40 times as long as in float32
            signal, values, weight = signal.float(), values.float(), weight.float()
        gradient = torch.ops.aten.convolution_backward(signal, values, weight, None, *geometry, [True, False, False])
        return gradient[0].to(signals[0].dtype), None, None, None, None
