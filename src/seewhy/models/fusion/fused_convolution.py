"""A convolution with its activation as one operation of oneDNN, and a gradient that needs its result alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack

from seewhy.core.tensors import compute_in_blocks

Backward = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Activation:
    """An activation as oneDNN names it; `backward(signal, result)` where its derivative can be told from its result."""

    name: str
    numbers: tuple[float, ...] = ()
    backward: Backward | None = None
    high: float | None = None
    """Where it cuts off, if it is min(max(x, 0), high): a rectifier."""


def read_activation(module: Any) -> Activation | None:
    """What a module computes, where oneDNN can; None for any other.

    A number that was cut off at a bound is not strictly between the bounds, before and after: the derivative of the
    rectifiers, with 0 at the bounds as torch takes it, is known from their result.
    """
    kind = f"{type(module).__module__}.{type(module).__qualname__}".removeprefix("torch.nn.modules.activation.")
    if kind == "ReLU":
        return Activation("relu", (), _above_zero, math.inf)
    if kind in ("ReLU6", "Hardtanh"):
        low, high = float(module.min_val), float(module.max_val)
        return Activation("hardtanh", (low, high), partial(_between, low, high), high if low == 0 < high else None)
    return {"Hardswish": Activation("hardswish"), "SiLU": Activation("swish")}.get(kind)


def _above_zero(signal: Tensor, result: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.threshold_backward(signal, result, 0)
    return found


def _between(low: float, high: float, signal: Tensor, result: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.hardtanh_backward(signal, result, low, high)
    return found


def is_fusible(module: nn.Conv2d) -> bool:
    """Whether the geometry of a convolution is one that `fused` knows."""
    named = type(module).__name__ == "Conv2dSame" or isinstance(module.padding, tuple)
    return named and module.padding_mode == "zeros"


def can_fuse(values: Tensor, weight: Tensor, activation: Activation) -> bool:
    """Whether these values can be fused here and now: float32 on a processor, and nobody looks at the operations."""
    return bool(
        values.device.type == "cpu"
        and values.dtype == weight.dtype == torch.float32
        and values.ndim == 4
        and values.numel() > 0
        and (activation.backward is not None or not (values.requires_grad and torch.is_grad_enabled()))
        and AVAILABLE
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and all(getattr(mode, "knows_fused", _nothing)(activation) for mode in _get_current_function_mode_stack())
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def _nothing(activation: Activation) -> bool:
    """A mode that watches functions wants to see the activation, unless its method `knows_fused` says otherwise."""
    return False


def convolve_fused(
    module: nn.Conv2d, parameters: Mapping[str, Tensor | None], values: Tensor, activation: Activation
) -> Tensor:
    """activation(module(values)) with other parameters [n, channels, rows, columns]."""
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
        result = convolve(values, weight, bias, geometry, activation)
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


Geometry = tuple[list[int], list[int], list[int], int]


def convolve(values: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, activation: Activation) -> Tensor:
    """The activated convolution without a gradient, of what is `usable`; `geometry`: padding, stride, dilation, groups."""
    given = (*geometry, activation.name, activation.numbers, "")
    with torch._C.DisableTorchFunction():
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(values, weight, bias, *given)
    return result


class FusedRectifier:
    """The rectifier inside of a fused convolution, reached from its node in the graph as `step`.

    `rule(out, signal, result, high)` writes what is passed back in place of the gradient, where it is set.
    """

    def __init__(self, name: str, high: float) -> None:
        self.name = name
        self.high = high
        self.rule: Callable[[Tensor, Tensor, Tensor, float], None] | None = None

    def backward(self, signal: Tensor, result: Tensor) -> Tensor:
        """The rule, block by block."""
        found = torch.empty_like(result)
        rule = self.rule
        assert rule is not None, "without a rule the gradient is passed back"

        def compute(out: Tensor, signal: Tensor, result: Tensor) -> None:
            rule(out, signal, result, self.high)

        compute_in_blocks(compute, found, signal, result)
        return found


class _Fused(torch.autograd.Function):
    """Keeps the values and the result, which the next layer keeps anyway: nothing between the two."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, activation: Activation
    ) -> Tensor:
        """The result."""
        result = convolve(values, weight, bias, geometry, activation)
        ctx.save_for_backward(values, weight, result)
        ctx.geometry, ctx.activation = geometry, activation
        ctx.step = None if activation.high is None else FusedRectifier(activation.name, activation.high)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the values alone: the parameters are constants."""
        values, weight, result = ctx.saved_tensors
        padding, stride, dilation, groups = ctx.geometry
        changed = ctx.step is not None and ctx.step.rule is not None
        signal = (ctx.step if changed else ctx.activation).backward(signals[0], result)
        geometry = stride, padding, dilation, False, [0, 0], groups
        gradient = torch.ops.aten.convolution_backward(signal, values, weight, None, *geometry, [True, False, False])
        return gradient[0], None, None, None, None


AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
