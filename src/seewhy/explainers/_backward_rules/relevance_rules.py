"""The rules by which a layer of weights shares the relevance of its outputs among its inputs.

Each works on signals: the signal c of a tensor x stands for the relevance x * c. An activation right behind the layer is
part of the rule (`Activation`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.core.tensors import compute_in_blocks, compute_in_blocks_beside
from seewhy.explainers._backward_rules.calls import Affine


@dataclass(frozen=True)
class Activation:
    """The activation y = f(z) right behind a layer, f(0) = 0: z takes all the relevance of y.

    `high`: f is min(max(z, 0), high), infinite for ReLU; None: any other function.
    """

    function: Callable[[Tensor], Tensor]
    high: float | None

    @property
    def is_relu(self) -> bool:
        """Whether f is ReLU: then y serves as z, because where they differ nothing is shared."""
        return self.high == math.inf

    def run(self, values: Tensor, in_place: bool) -> Tensor:
        """Compute f(z), in the memory of z or not."""
        if self.high is not None:
            return values.clamp_(0, self.high) if in_place else values.clamp(0, self.high)
        return values.copy_(self.function(values)) if in_place else self.function(values)

    def read(self, values: Tensor) -> Tensor:
        """Compute y of what was kept: of z, or of y itself for ReLU."""
        if self.is_relu:
            return values
        return self.function(values) if self.high is None else values.clamp(0, self.high)


Share = Callable[[Affine, Tensor, Tensor, Tensor, Activation | None], Tensor]
"""(layer, its input x, its result z, the signal c, the activation behind z) -> the signal of x.

c is the signal of y: of the activated z where there is an activation, else of z itself. z has the relevance r = y c.
"""


@dataclass(frozen=True)
class Rule:
    """How a layer shares relevance, and whether it can do so from y alone where y is a rectified z."""

    share: Share
    needs_argument: Callable[[Affine], bool]
    """Whether z itself is read; else a ReLU6, like a ReLU, keeps its result alone."""

    def __call__(
        self, layer: Affine, values: Tensor, result: Tensor, signal: Tensor, activation: Activation | None
    ) -> Tensor:
        """Share."""
        return self.share(layer, values, result, signal, activation)


FIRM = 0.05
"""Gamma from which on the sum of the raised terms is far from rounding wherever z is positive."""
TINY = 1e-9
"""Keeps a denominator of zero, whose numerator is zero as well, from giving NaN."""


def _read_block(result: Tensor, activation: Activation | None) -> tuple[Tensor, Tensor]:
    """(|z|, y) of a block; of a rectified z 0 where it is negative, since there y is 0."""
    if activation is None:
        return result.abs(), result
    if activation.high is None:
        return result.abs(), activation.read(result)
    return result if activation.is_relu else result.clamp(min=0), activation.read(result)


def build_epsilon_rule(epsilon: float) -> Rule:
    """r_i = sum_j x_i w_ij / (z_j + epsilon sign(z_j)) r_j: absorbs what the bias and epsilon contribute."""

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor, activation: Activation | None) -> Tensor:
        def compute_share(share: Tensor, result: Tensor, signal: Tensor) -> None:
            size, active = _read_block(result, activation)
            if activation is None:
                active = size
            elif activation.high is None:
                active = active * torch.sign(result)
            torch.div(active, size + max(epsilon, TINY**2), out=share).mul_(signal)

        share = torch.empty_like(result)
        compute_in_blocks(compute_share, share, result, signal)
        return layer.transpose(share, layer.weight, values)

    return Rule(rule, lambda layer: True)


def build_gamma_rule(gamma: float) -> Rule:
    """The epsilon rule (epsilon = 0) with the terms x_i w_ij that have the sign of z_j taken (1 + gamma) times.

    For inputs that are never negative and z_j > 0 this is w_ij + gamma max(w_ij, 0), as published. A term t has the sign
    of z in (|t| + t sign(z)) / 2, so the denominator is |z| (1 + gamma / 2) + gamma / 2 (sum of all |t|). Where inputs are
    never negative and z is rectified that is the layer with the raised weights, and z itself is not needed.
    """

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor, activation: Activation | None) -> Tensor:
        signed = not layer.rising and bool(values.amin() < 0)
        size, bias = layer.weight.abs().mul_(gamma / 2), layer.fill_bias(TINY)
        if layer.bias is not None:
            bias = layer.bias.abs().mul_(gamma / 2).add_(TINY)
        rectified = activation is not None and activation.high is not None
        if rectified and not signed and gamma >= FIRM:
            raised = size.add_(layer.weight, alpha=1 + gamma / 2)
            bias = bias if layer.bias is None else bias.add_(layer.bias, alpha=1 + gamma / 2)
            share = layer.apply(values, raised, bias)

            def divide(total: Tensor, result: Tensor, signal: Tensor) -> None:
                torch.div(_read_block(result, activation)[1], total.clamp_(min=TINY), out=total).mul_(signal)

            compute_in_blocks(divide, share, result, signal)
            return layer.transpose(share, raised, values)
        share = layer.apply(values.abs() if signed else values, size, bias)
        turned = share if rectified else torch.empty_like(share)
        negative = [False]

        def compute_share(total: Tensor, result: Tensor, signal: Tensor, turned: Tensor) -> None:
            height, active = _read_block(result, activation)
            total.add_(height, alpha=1 + gamma / 2)
            torch.div(active, total, out=turned).mul_(signal)
            if not rectified:
                torch.mul(turned, torch.sign(result), out=total)
                negative[0] = negative[0] or _shares_negative(total, result)

        compute_in_blocks(compute_share, share, result, signal, turned)
        return _transpose_boosted(layer, values, share, turned if negative[0] else None, size, gamma, signed)

    return Rule(rule, lambda layer: not layer.rising or gamma < FIRM)


def _shares_negative(share: Tensor, result: Tensor) -> bool:
    """Whether a negative result has a share."""
    negative = torch.ops.aten.hardtanh_backward(share, result, -torch.inf, 0)
    return bool(negative.amax() != 0) or bool(negative.amin() != 0)


def _transpose_boosted(
    layer: Affine, values: Tensor, share: Tensor, turned: Tensor | None, size: Tensor, gamma: float, signed: bool
) -> Tensor:
    """Carry the shares s back with the terms of the result's sign taken (1 + gamma) times.

    With T(s, W) for s carried back with the weights W, an input x gets (1 + gamma / 2) T(s, W) + sign(x) T(s sign(z),
    gamma / 2 |W|). `turned`: s sign(z), None where no negative z has a share. `size`: gamma / 2 |W|.
    """
    if turned is None and not signed:
        return layer.transpose(share, torch.add(size, layer.weight, alpha=1 + gamma / 2), values)
    plain = layer.weight * (1 + gamma / 2)
    if turned is None:
        rising, falling = layer.transpose_each(share, (plain + size, plain - size), values)
        return torch.where(values < 0, falling, rising)
    if not signed:
        return layer.transpose_sum((share, turned), (plain, size), values)
    carried, extra = layer.transpose(share, plain, values), layer.transpose(turned, size, values)
    compute_in_blocks(_add_signed, carried, extra, values)
    return carried


def _add_signed(carried: Tensor, extra: Tensor, values: Tensor) -> None:
    """carried + extra; carried - extra where the value is negative."""
    carried.add_(torch.where(values < 0, -extra, extra))


def build_z_plus_rule() -> Rule:
    """r_i = sum_j (x_i w_ij)+ / sum_i (x_i w_ij)+ r_j: only what raises a unit receives relevance; biases are left out."""

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor, activation: Activation | None) -> Tensor:
        plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        signed = not layer.rising and bool(values.amin() < 0)
        if signed:
            share = layer.apply(values.clamp(min=0), plus).add_(layer.apply(values.clamp(max=0), minus))
        else:
            share = layer.apply(values, plus)

        def compute_share(raising: Tensor, result: Tensor, signal: Tensor) -> None:
            ratio = _read_block(result, activation)[1].mul(signal).div_(raising + TINY)
            torch.ops.aten.threshold_backward.grad_input(ratio, raising, 0, grad_input=raising)

        compute_in_blocks(compute_share, share, result, signal)
        carried = layer.transpose(share, plus, values)
        return torch.where(values < 0, layer.transpose(share, minus, values), carried) if signed else carried

    return Rule(rule, lambda layer: False)


def apply_bounded_rule(
    layer: Affine, operands: Sequence[Tensor], result: Tensor, signal: Tensor, activation: Activation | None
) -> tuple[Tensor, Tensor, Tensor]:
    """z^B rule for pixels between `low` and `high`: r_i = sum_j (x_i w_ij - l_i w+_ij - h_i w-_ij) / (sum over i) r_j.

    `operands`: x, l and h; the bounds are the same for every image. Returns their factors, whose products with them add up
    to the relevance.
    """
    values, low, high = operands
    plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    least = layer.apply(low[:1], plus) + layer.apply(high[:1], minus)
    total = layer.apply(values, layer.weight)

    def compute_share(total: Tensor, result: Tensor, signal: Tensor, least: Tensor) -> None:
        total.sub_(least).clamp_(min=0)
        ratio = _read_block(result, activation)[1].mul(signal).div_(total + TINY)
        torch.ops.aten.threshold_backward.grad_input(ratio, total, 0, grad_input=total)

    compute_in_blocks_beside(compute_share, (total, result, signal), (least,))
    all_weights, positive = layer.transpose_each(total, (layer.weight, plus), values)
    return all_weights, -positive, positive - all_weights
