"""What a call of a torch function computes, whether a module, a function or a method makes it.

Backward rules know two kinds of calls: affine layers (`parse_affine`), which they evaluate again with other weights,
and elementwise functions (`parse_elementwise`), which torch offers under several names and in place.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

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
    """A layer z = W x + b with its weight [outputs, ...] and bias [outputs] (or None).

    `rising`: no value of its input is negative, as is known without looking.
    """

    weight: Tensor
    bias: Tensor | None
    rising: bool = field(default=False, kw_only=True)
    is_convolution: ClassVar[bool] = False

    @abstractmethod
    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Evaluate the layer with other weights."""

    @abstractmethod
    def transpose(self, signal: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        """Carry a signal of the outputs back to the inputs: W^T signal, with the shape and memory format of `values`."""

    def fill_bias(self, value: float) -> Tensor:
        """A bias of one value everywhere."""
        return self.weight.new_full((len(self.weight),), value)

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
    is_convolution: ClassVar[bool] = True

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


@dataclass(frozen=True)
class Contraction(Affine):
    """Any other product with weights, `call(values, weight)`: `x @ W`, einsum, other convolutions."""

    call: Callable[[Tensor, Tensor], Tensor]

    def fill_bias(self, value: float) -> Tensor:
        """A bias of one value everywhere, whatever the shape of the outputs."""
        return self.weight.new_full((1,), value)

    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Evaluate the product with other weights."""
        result = self.call(values, weight)
        return result if bias is None else result + bias

    def transpose(self, signal: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        """Carry a signal back: the gradient of the product."""
        with torch.enable_grad():
            leaf = values.detach().requires_grad_()
            return torch.autograd.grad(self.call(leaf, weight), leaf, signal)[0]


@dataclass(frozen=True)
class OtherConvolution(Contraction):
    """A convolution of another number of dimensions, a transposed one, or one with another padding on each side."""

    is_convolution: ClassVar[bool] = True


PRODUCTS = frozenset("__matmul__ __rmatmul__ bmm dot einsum inner matmul mm mv tensordot".split())
"""Functions of two factors, as far as neither or one of them is written into."""
ADDED_PRODUCTS = frozenset("addmm addmv baddbmm".split())
"""Functions (b, x, y) -> beta b + alpha x y."""
CONVOLUTIONS = {
    getattr(functional, f"{name}{dimensions}d"): dimensions
    for name in ("conv", "conv_transpose")
    for dimensions in (1, 2, 3)
}
"""Functions (x, weight, bias, ...), each with the number of its dimensions; torch.conv2d is functional.conv2d."""
CONVOLUTION_ARGUMENTS = ("stride", "padding", "dilation", "groups")
"""Of conv2d, behind x, weight and bias."""


def parse_affine(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Affine, Tensor] | None:
    """Read a call that multiplies an activation with weights: a linear layer, a convolution, `x @ W` in any spelling.

    Args:
        func: The torch function that is called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        (the layer, its input), or None for any other function and for weights that depend on the image.
    """
    if func is not functional.linear and func not in CONVOLUTIONS:
        return _parse_product(func, args, kwargs)
    names = ("input", "weight", "bias", *(() if func is functional.linear else CONVOLUTION_ARGUMENTS))
    call = dict(zip(names, args, strict=False)) | dict(kwargs)
    values, weight, bias = call.pop("input"), call.pop("weight"), call.pop("bias", None)
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        return None
    if func is functional.linear:
        return Dense(weight, bias), values
    if func is functional.conv2d:
        layer = _resolve_padding(Convolution(weight, bias, **call))
        if layer is not None:
            return layer, values
    dimensions = CONVOLUTIONS[func]
    further = [*args[3:]], {key: value for key, value in kwargs.items() if key not in ("input", "weight", "bias")}
    beside = None if bias is None else bias.view(-1, *[1] * dimensions)
    return OtherConvolution(weight, beside, lambda x, w: func(x, w, None, *further[0], **further[1])), values


def _parse_product(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Affine, Tensor] | None:
    """A product of an activation with something that is the same for every image."""
    name = getattr(func, "__name__", "")
    added = name in ADDED_PRODUCTS
    offset = 1 if added or func is torch.einsum else 0
    if not (added or name in PRODUCTS) or kwargs.get("out") is not None or len(args) < offset + 2:
        return None
    factors = args[offset : offset + 2]
    varying = [index for index in (0, 1) if _needs_gradient(factors[index])]
    constant = len(varying) == 1 and isinstance(factors[1 - varying[0]], Tensor)
    if not constant or (func is torch.einsum and len(args) > 3) or (added and _needs_gradient(args[0])):
        return None
    index = varying[0]
    options = {key: value for key, value in kwargs.items() if key not in ("beta", "alpha")}
    alpha = kwargs.get("alpha", 1)

    def multiply(values: Tensor, weight: Tensor) -> Tensor:
        pair = (values, weight) if index == 0 else (weight, values)
        if added:
            product = pair[0] @ pair[1]
            return product if alpha == 1 else product * alpha
        result: Tensor = func(*args[:offset], *pair, *args[offset + 2 :], **options)
        return result

    bias = args[0] * kwargs.get("beta", 1) if added else None
    return Contraction(factors[1 - index], bias, multiply), factors[index]


NORMALISATION_ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
"""Of batch_norm."""


def parse_batch_norm(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    """Read a call of batch normalisation with fixed statistics.

    Args:
        func: The torch function that is called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        (factor, shift) [channels] of factor * x + shift, or None for any other function and for statistics of the batch.
    """
    if func is not functional.batch_norm:
        return None
    call = dict(zip(NORMALISATION_ARGUMENTS, args, strict=False)) | dict(kwargs)
    mean, variance, weight, bias = (call.get(name) for name in NORMALISATION_ARGUMENTS[1:5])
    if call.get("training") or mean is None or variance is None or any(map(_needs_gradient, (weight, bias))):
        return None
    factor = (variance + call.get("eps", 1e-5)).rsqrt()
    if weight is not None:
        factor = factor * weight
    shift = -mean * factor
    return factor, shift if bias is None else shift + bias


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
    is_uniform: bool = True
    """Whether f is the same for every element: no argument has a number for each channel."""

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
    uniform = not any(isinstance(value, Tensor) and value.numel() > 1 for value in (*rest, *options.values()))
    return Elementwise(spelling.name, argument, lambda x: spelling.pure(x, *rest, **options), in_place, uniform)


def _needs_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad
