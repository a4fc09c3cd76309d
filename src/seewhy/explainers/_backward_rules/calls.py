"""What a call of a torch function computes, whether a module, a function or a method makes it.

Backward rules know two kinds of calls: affine layers (`parse_affine`), which they evaluate again with other weights,
and elementwise functions (`parse_elementwise`), which torch offers under several names and in place.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

ELEMENTWISE = (
    "abs atan celu clamp clamp_max clamp_min clip cos elu erf exp expm1 gelu hardshrink hardsigmoid hardswish hardtanh "
    "leaky_relu log log1p logsigmoid mish pow prelu reciprocal relu relu6 rrelu rsqrt selu sigmoid silu sin softplus "
    "softshrink softsign sqrt square tanh tanhshrink threshold __pow__"
).split()
"""Functions of one number that act on every element."""
CLAMPS = frozenset("clamp clamp_max clamp_min clip hardtanh relu relu6".split())
"""Elementwise functions min(max(x, low), high)."""


@dataclass(frozen=True)
class Affine:
    """A layer z = W x + b with its weight [outputs, ...] and bias [outputs] (or None)."""

    weight: Tensor
    bias: Tensor | None

    @abstractmethod
    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Evaluate the layer with other weights."""

    @abstractmethod
    def transpose(self, signal: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        """Carry a signal of the outputs back to the inputs: W^T signal, with the shape and memory format of `values`."""

    def transpose_sum(self, signals: Sequence[Tensor], weights: Sequence[Tensor], values: Tensor) -> Tensor:
        """Sum of each signal carried back with its weight, as one product where the layer allows."""
        total = self.transpose(signals[0], weights[0], values)
        for signal, weight in zip(signals[1:], weights[1:], strict=True):
            total += self.transpose(signal, weight, values)
        return total

    def transpose_each(self, signal: Tensor, weights: Sequence[Tensor], values: Tensor) -> Sequence[Tensor]:
        """The signal carried back with each weight, as one product where the layer allows."""
        return [self.transpose(signal, weight, values) for weight in weights]

    def rescale(self, factor: Tensor, shift: Tensor) -> Self:
        """Append factor * outputs + shift, one number for each output channel (batch normalisation)."""
        weight = self.weight * factor.view(-1, *[1] * (self.weight.ndim - 1))
        return replace(self, weight=weight, bias=shift if self.bias is None else self.bias * factor + shift)


@dataclass(frozen=True)
class Dense(Affine):
    """`functional.linear`: [..., inputs] -> [..., outputs]."""

    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Evaluate the layer with other weights."""
        return functional.linear(values, weight, bias)

    def transpose(self, signal: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        """Carry a signal [..., outputs] back to [..., inputs]."""
        return signal @ weight


@dataclass(frozen=True)
class Convolution(Affine):
    """`functional.conv2d` with its geometry: [batch, channels, rows, columns] -> [batch, outputs, rows, columns]."""

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1

    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Evaluate the layer with other weights."""
        return functional.conv2d(values, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, signal: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        """Carry a signal back with the transposed convolution."""
        geometry = (*map(_as_pair, (self.stride, self.padding, self.dilation)), False, [0, 0], self.groups)
        gradients = torch.ops.aten.convolution_backward(signal, values, weight, None, *geometry, [True, False, False])
        input_gradient: Tensor = gradients[0]
        return input_gradient

    def transpose_sum(self, signals: Sequence[Tensor], weights: Sequence[Tensor], values: Tensor) -> Tensor:
        """Stack the signals as if they were those of more outputs."""
        if self.groups > 1:
            return super().transpose_sum(signals, weights, values)
        return self.transpose(torch.cat([*signals], 1), torch.cat([*weights]), values)

    def transpose_each(self, signal: Tensor, weights: Sequence[Tensor], values: Tensor) -> Sequence[Tensor]:
        """Stack the weights as if there were more inputs."""
        if self.groups > 1:
            return super().transpose_each(signal, weights, values)
        shape = len(values), len(weights) * values.shape[1], *values.shape[2:]
        inputs = torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=find_memory_format(values))
        return self.transpose(signal, torch.cat([*weights], 1), inputs).chunk(len(weights), 1)


def parse_affine(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Affine, Tensor] | None:
    """Read a call of linear or conv2d.

    Args:
        func: The torch function that is called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        (the layer, its input), or None for any other function and for weights that depend on the image.
    """
    if func is functional.linear:
        names: tuple[str, ...] = ("input", "weight", "bias")
    elif func in (functional.conv2d, torch.conv2d):
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    else:
        return None
    call = dict(zip(names, args, strict=False)) | dict(kwargs)
    values, weight, bias = call.pop("input"), call.pop("weight"), call.pop("bias", None)
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        return None
    if func is functional.linear:
        return Dense(weight, bias), values
    layer = _resolve_padding(Convolution(weight, bias, **call))
    return None if layer is None else (layer, values)


def find_memory_format(values: Tensor) -> torch.memory_format:
    """channels_last where the elements lie in that order and no other, else contiguous_format."""
    last = values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last) and not values.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _as_pair(number: Any) -> list[int]:
    return [number, number] if isinstance(number, int) else [*number] * (2 // len(number))


def _resolve_padding(layer: Convolution) -> Convolution | None:
    """`same` and `valid` as numbers; None where `same` would need another padding on each side."""
    if layer.padding == "valid":
        return replace(layer, padding=0)
    if layer.padding == "same":
        dilation = layer.dilation if isinstance(layer.dilation, tuple) else (layer.dilation,) * 2
        total = [step * (side - 1) for step, side in zip(dilation, layer.weight.shape[2:], strict=True)]
        return None if any(n % 2 for n in total) else replace(layer, padding=tuple(n // 2 for n in total))
    return layer


@dataclass(frozen=True)
class Elementwise:
    """A call y = f(x), element by element: `function(argument)` is the result, `in_place` whether it overwrites x."""

    name: str
    argument: Tensor
    function: Callable[[Tensor], Tensor]
    in_place: bool

    def find_clamp_bounds(self) -> tuple[float, float] | None:
        """(low, high) if the function is min(max(x, low), high) with one pair of bounds, else None."""
        if self.name not in CLAMPS:
            return None
        try:
            low, high = self.function(self.argument.new_tensor([-torch.inf, torch.inf])).tolist()
        except (RuntimeError, ValueError):  # a bound for each element
            return None
        return low, high


@dataclass(frozen=True)
class Spelling:
    """A torch function that computes an elementwise function; `pure` never writes into its argument."""

    name: str
    pure: Callable[..., Tensor]
    in_place: bool
    flag: int | None
    """Position of the argument `inplace`, where the function has one."""


def _list_spellings() -> dict[Any, Spelling]:
    table: dict[Any, Spelling] = {}
    for owner in (torch, functional, Tensor):
        for name in ELEMENTWISE:
            pure = getattr(owner, name, None)
            if pure is None:
                continue
            code = getattr(pure, "__code__", None)
            parameters = code.co_varnames[: code.co_argcount] if code else ()
            flag = parameters.index("inplace") if "inplace" in parameters else None
            table[pure] = Spelling(name.strip("_"), pure, False, flag)
            writing = getattr(owner, f"{name}_", None)
            if writing is not None:
                table[writing] = Spelling(name, pure, True, None)
    return table


SPELLINGS = _list_spellings()
"""Every torch function that computes an elementwise function."""


def parse_elementwise(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Elementwise | None:
    """Read a call of an elementwise function of one tensor that depends on the image.

    Args:
        func: The torch function that is called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        The call, or None for any other function, where a second argument depends on the image, or with `out`.
    """
    spelling = SPELLINGS.get(func)
    if spelling is None or "out" in kwargs:
        return None
    options = dict(kwargs)
    rest = list(args)
    argument = rest.pop(0) if rest else options.pop("input", None)
    if not isinstance(argument, Tensor) or any(_needs_gradient(value) for value in (*rest, *options.values())):
        return None
    in_place = spelling.in_place
    if spelling.flag is not None:
        in_place = bool(options.pop("inplace", False))
        if len(rest) >= spelling.flag:
            in_place = bool(rest.pop(spelling.flag - 1))
    return Elementwise(spelling.name, argument, lambda values: spelling.pure(values, *rest, **options), in_place)


def _needs_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad
