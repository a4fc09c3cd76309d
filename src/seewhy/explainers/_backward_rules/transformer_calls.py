"""What a call of a torch function computes in a transformer: attention, normalisation, products of activations.

Functions of torch that are written in Python hide what they call: `expand_call` runs their body so that a function mode sees
each step, and `attend_explicitly` spells out fused attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SOFTMAXES = frozenset((torch.softmax, Tensor.softmax, functional.softmax))
FUSED_ATTENTION = functional.scaled_dot_product_attention
EXPANDED = frozenset((functional.multi_head_attention_forward, functional.normalize))
"""Functions whose steps have rules of their own."""
MATRIX_PRODUCTS = "__matmul__ __rmatmul__ bmm dot inner matmul mm mv outer".split()
PRODUCTS = [*MATRIX_PRODUCTS, *"__imul__ __mul__ __rmul__ mul mul_ multiply multiply_".split()]
FACTORS = dict.fromkeys(PRODUCTS, (0, 1)) | dict.fromkeys("addbmm addcmul addmm addmv addr baddbmm".split(), (1, 2))
"""Functions that multiply two of their arguments, and which."""
DIVISIONS = frozenset("__truediv__ __itruediv__ div div_ divide divide_ true_divide true_divide_".split())


def find_factors(func: Any) -> tuple[int, ...]:
    """Find the positions of the arguments that a function multiplies with each other; none for other functions."""
    return FACTORS.get(getattr(func, "__name__", ""), ())


def list_factors(func: Any, args: tuple[Any, ...]) -> tuple[int, ...]:
    """List the positions of the arguments that a call multiplies with each other and that depend on the image.

    Args:
        func: The torch function that is called.
        args: Its positional arguments.

    Returns:
        The positions; those of `einsum` count its operands from 1. Empty for any other function.
    """
    operands = tuple(range(1, len(args))) if func is torch.einsum else find_factors(func)
    return tuple(index for index in operands if index < len(args) and depends(args[index]))


def depends(value: Any) -> bool:
    """Tell whether a value is a tensor that depends on the image."""
    return isinstance(value, Tensor) and value.requires_grad


def expand_call(func: Any) -> Callable[..., Any]:
    """Build a function of torch that is written in Python anew, so that a function mode sees what it calls.

    Args:
        func: One of `EXPANDED`; its first act is to ask whether a mode wants to see it.

    Returns:
        The same function, which does not ask.
    """
    asking = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    names = {**func.__globals__, **dict.fromkeys(asking, lambda *tensors: False)}
    built = FunctionType(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)
    built.__kwdefaults__ = func.__kwdefaults__
    return built


def attend_explicitly(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    receive: Callable[[Tensor], object] | None = None,
) -> Tensor:
    """Compute `scaled_dot_product_attention` in steps: softmax(query key' * scale + mask) value.

    Args:
        query: [..., heads, queries, channels].
        key: [..., heads, keys, channels].
        value: [..., heads, keys, channels].
        attn_mask: Added to the logits, or bool: which of them count.
        dropout_p: Share of the weights that is dropped.
        is_causal: Whether no query looks at later keys.
        scale: Factor of the logits; None: 1 / sqrt(channels).
        enable_gqa: Whether several heads of queries share one of the keys.
        receive: Called with the weights [..., heads, queries, keys].

    Returns:
        [..., heads, queries, channels].
    """
    if enable_gqa:
        key, value = (each.repeat_interleave(query.shape[-3] // each.shape[-3], -3) for each in (key, value))
    logits = query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale) @ key.mT
    if is_causal:
        future = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
        logits = logits.masked_fill(future, -torch.inf)
    if attn_mask is not None:
        logits = logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
    attention = logits.softmax(-1).to(value.dtype)
    if dropout_p:
        attention = functional.dropout(attention, dropout_p)
    if receive is not None:
        receive(attention)
    return attention @ value


def find_steps(func: Any) -> Callable[..., Any] | None:
    """Find a function that computes the same in steps that a function mode sees; None where torch itself has one step."""
    if func is FUSED_ATTENTION:
        return attend_explicitly
    return expand_call(func) if func in EXPANDED else None


@dataclass(frozen=True)
class Normalisation:
    """A call y = weight (x - mean) / sqrt(variance + eps) + bias over groups of x; without means in an RMS norm.

    `groups` is None where the last `axes` axes are one group, else the number of groups of channels (axis 1).
    """

    argument: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    axes: int
    groups: int | None = None
    centred: bool = True

    @property
    def is_fixed(self) -> bool:
        """Whether weight and bias are the same for every image."""
        return not (depends(self.weight) or depends(self.bias))

    def run_in_steps(self, normalise: Callable[[Normalisation], Tensor]) -> Tensor:
        """Normalise without weight and bias, by `normalise`, then multiply and add as two steps."""
        result = normalise(replace(self, weight=None, bias=None))
        if self.weight is not None:
            result = result * self._beside(self.weight)
        return result if self.bias is None else result + self._beside(self.bias)

    def split(self, values: Tensor) -> Tensor:
        """Arrange values as [..., size of a group]."""
        if self.groups is None:
            return values.flatten(-self.axes)
        return values.reshape(len(values), self.groups, -1)

    def weigh(self, values: Tensor) -> Tensor:
        """Multiply values, of the shape of the argument, by the weight."""
        return values if self.weight is None else values * self._beside(self.weight)

    def measure(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Measure (x - mean [..., size], variance + eps [..., 1]) of each group."""
        groups = self.split(values)
        centred = groups - groups.mean(-1, keepdim=True) if self.centred else groups
        return centred, centred.square().mean(-1, keepdim=True) + self.eps

    def run(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (y, 1 / sqrt(variance + eps) [..., 1])."""
        if not self.centred:
            scale = self.measure(values)[1].rsqrt()
            return self.weigh((self.split(values) * scale).view_as(values)), scale
        if self.groups is None:
            shape = list(values.shape[values.ndim - self.axes :])
            result, _, scale = torch.native_layer_norm(values, shape, self.weight, self.bias, self.eps)
            return result, scale.flatten(-self.axes)
        sizes = len(values), values.shape[1], values[0, 0].numel(), self.groups
        result, _, scale = torch.native_group_norm(values.contiguous(), self.weight, self.bias, *sizes, self.eps)
        return result, scale[..., None]

    def carry_back(self, signal: Tensor) -> Tensor:
        """Carry a signal of (x - mean) [..., size] back to x: less its mean."""
        return signal - signal.mean(-1, keepdim=True) if self.centred else signal

    def _beside(self, parameter: Tensor) -> Tensor:
        if self.groups is None:
            return parameter
        return parameter.view(-1, *[1] * (self.argument.ndim - 2))


LAYER_NORM = ("input", "normalized_shape", "weight", "bias", "eps")
RMS_NORM = ("input", "normalized_shape", "weight", "eps")
GROUP_NORM = ("input", "num_groups", "weight", "bias", "eps")
NORMALISATIONS = {
    functional.layer_norm: LAYER_NORM,
    torch.layer_norm: LAYER_NORM,
    functional.rms_norm: RMS_NORM,
    torch.rms_norm: RMS_NORM,
    functional.group_norm: GROUP_NORM,
    torch.group_norm: GROUP_NORM,
}
"""Functions that normalise groups of their argument, with the names of their arguments."""


def parse_normalisation(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Normalisation | None:
    """Read a call of layer_norm, rms_norm or group_norm.

    Args:
        func: The torch function that is called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        The call, or None for any other function.
    """
    names = NORMALISATIONS.get(func)
    if names is None:
        return None
    call = dict(zip(names, args, strict=False)) | dict(kwargs)
    weight, bias = call.get("weight"), call.get("bias")
    argument = call["input"]
    eps = call.get("eps", None if names is RMS_NORM else 1e-5)
    eps = torch.finfo(argument.dtype).eps if eps is None else eps
    if names is GROUP_NORM:
        return Normalisation(argument, weight, bias, eps, 0, call["num_groups"])
    return Normalisation(argument, weight, bias, eps, len(call["normalized_shape"]), centred=names is LAYER_NORM)
