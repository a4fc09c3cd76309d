"""Convolutions and dense layers as one kind of thing: outputs = weights * inputs + bias, with other weights on demand."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Affine:
    """A layer with its weight [outputs, ...] and bias [outputs] (or None)."""

    weight: Tensor
    bias: Tensor | None

    @abstractmethod
    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's result with other weights."""

    @abstractmethod
    def transposed(self, signal: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        """The signal of the result carried back to the layer's argument, as `values` in shape and order in memory."""

    def transposed_sum(self, signals: Sequence[Tensor], weights: Sequence[Tensor], values: Tensor) -> Tensor:
        """The sum of each signal carried back with its weight: one product where the layer allows."""
        carried = self.transposed(signals[0], weights[0], values)
        for signal, weight in zip(signals[1:], weights[1:], strict=True):
            carried += self.transposed(signal, weight, values)
        return carried

    def transposed_each(self, signal: Tensor, weights: Sequence[Tensor], values: Tensor) -> Sequence[Tensor]:
        """The signal carried back with each weight: one product where the layer allows."""
        return [self.transposed(signal, weight, values) for weight in weights]

    def rescaled(self, factor: Tensor, shift: Tensor) -> Self:
        """The layer followed by factor * outputs + shift, one number for each output channel (batch normalisation)."""
        weight = self.weight * factor.view(-1, *[1] * (self.weight.ndim - 1))
        return replace(self, weight=weight, bias=shift if self.bias is None else self.bias * factor + shift)


@dataclass(frozen=True)
class Dense(Affine):
    """`functional.linear`."""

    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return functional.linear(values, weight, bias)

    def transposed(self, signal: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        """[..., outputs] -> [..., inputs]."""
        return signal @ weight


@dataclass(frozen=True)
class Convolution(Affine):
    """`functional.conv2d` with its geometry."""

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1

    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """[batch, channels, rows, columns] -> [batch, outputs, rows, columns]."""
        return functional.conv2d(values, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transposed(self, signal: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        """The transposed convolution."""
        geometry = (*map(_pair, (self.stride, self.padding, self.dilation)), False, [0, 0], self.groups)
        found: Tensor = torch.ops.aten.convolution_backward(
            signal, values, weight, None, *geometry, [True, False, False]
        )[0]
        return found

    def transposed_sum(self, signals: Sequence[Tensor], weights: Sequence[Tensor], values: Tensor) -> Tensor:
        """As if the signals were those of more outputs."""
        if self.groups > 1:
            return super().transposed_sum(signals, weights, values)
        return self.transposed(torch.cat([*signals], 1), torch.cat([*weights]), values)

    def transposed_each(self, signal: Tensor, weights: Sequence[Tensor], values: Tensor) -> Sequence[Tensor]:
        """As if there were more inputs."""
        if self.groups > 1:
            return super().transposed_each(signal, weights, values)
        shape = len(values), len(weights) * values.shape[1], *values.shape[2:]
        more = torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=memory_format(values))
        return self.transposed(signal, torch.cat([*weights], 1), more).chunk(len(weights), 1)


def memory_format(values: Tensor) -> torch.memory_format:
    """In which order the elements of a tensor lie in memory."""
    last = values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last) and not values.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _pair(number: Any) -> list[int]:
    return [number, number] if isinstance(number, int) else [*number] * (2 // len(number))


def affine_layer(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Affine, Tensor] | None:
    """(the layer, its argument) of a call of linear or conv2d with weights that do not depend on the image."""
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
    return _padded(Convolution(weight, bias, **call), values)


def _padded(layer: Convolution, values: Tensor) -> tuple[Convolution, Tensor] | None:
    """`same` and `valid` as numbers; None where `same` would need another padding on each side."""
    if layer.padding == "valid":
        return replace(layer, padding=0), values
    if layer.padding == "same":
        dilation = layer.dilation if isinstance(layer.dilation, tuple) else (layer.dilation,) * 2
        total = [step * (side - 1) for step, side in zip(dilation, layer.weight.shape[2:], strict=True)]
        return (replace(layer, padding=tuple(n // 2 for n in total)), values) if not any(n % 2 for n in total) else None
    return layer, values
