"""Relevance rules: how one affine layer z_j = sum_i x_i w_ij + b_j shares the relevance r_j of its outputs among its inputs.

Bach et al.: On pixel-wise explanations, PLOS ONE 2015. Montavon et al.: Layer-wise relevance propagation: an overview, 2019.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seewhy.core.tensors import compute_in_blocks, compute_in_blocks_beside
from seewhy.explainers._backward_rules.calls import Affine

Rule = Callable[[Affine, Tensor, Tensor, Tensor], Tensor]
"""(layer, its input x, its result z, the signal c of z) -> the signal of x; z has the relevance r = z * c."""

TINY = 1e-9
"""Keeps a denominator of zero, whose numerator is zero as well, from giving NaN."""


def build_epsilon_rule(epsilon: float) -> Rule:
    """r_i = sum_j x_i w_ij / (z_j + epsilon sign(z_j)) r_j: absorbs what the bias and epsilon contribute."""

    def compute_share(share: Tensor, result: Tensor, signal: Tensor) -> None:
        size = result.abs()
        torch.div(size, size + max(epsilon, TINY**2), out=share).mul_(signal)

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor) -> Tensor:
        share = torch.empty_like(result)
        compute_in_blocks(compute_share, share, result, signal)
        return layer.transpose(share, layer.weight, values)

    return rule


def build_gamma_rule(gamma: float) -> Rule:
    """The epsilon rule (epsilon = 0) with the terms x_i w_ij that have the sign of z_j taken (1 + gamma) times.

    For inputs that are never negative and z_j > 0 this is w_ij + gamma max(w_ij, 0), as published. A term t has the sign
    of z in (|t| + t sign(z)) / 2, so the denominator is |z| (1 + gamma / 2) + gamma / 2 (sum of all |t|).
    """

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor) -> Tensor:
        signed = bool(values.amin() < 0)
        bias = None if layer.bias is None else layer.bias.abs()
        share = layer.apply(values.abs() if signed else values, layer.weight.abs(), bias)
        negative = [False]

        def compute_share(total: Tensor, result: Tensor, signal: Tensor) -> None:
            size = result.abs()
            total.mul_(gamma / 2).add_(size, alpha=1 + gamma / 2).add_(TINY)
            torch.div(size, total, out=total).mul_(signal)
            negative[0] = negative[0] or _shares_negative(total, result)

        compute_in_blocks(compute_share, share, result, signal)
        return _transpose_boosted(layer, values, share, result if negative[0] else None, gamma, signed)

    return rule


def _shares_negative(share: Tensor, result: Tensor) -> bool:
    """Whether a negative result has a share."""
    negative = torch.ops.aten.hardtanh_backward(share, result, -torch.inf, 0)
    return bool(negative.amax() != 0) or bool(negative.amin() != 0)


def _transpose_boosted(
    layer: Affine, values: Tensor, share: Tensor, result: Tensor | None, gamma: float, signed: bool
) -> Tensor:
    """Carry the shares back with the terms of the result's sign taken (1 + gamma) times.

    With s the shares and T(s, W) for s carried back with the weights W, an input x gets
    (1 + gamma / 2) T(s, W) + sign(x) gamma / 2 T(s sign(z), |W|). `result`: None where no negative one has a share.
    """
    plain, size = layer.weight * (1 + gamma / 2), layer.weight.abs().mul_(gamma / 2)
    if result is None and not signed:
        return layer.transpose(share, plain.add_(size), values)
    if result is None:
        rising, falling = layer.transpose_each(share, (plain + size, plain - size), values)
        return torch.where(values < 0, falling, rising)
    turned = torch.empty_like(share)
    compute_in_blocks(_multiply_by_sign, turned, share, result)
    if not signed:
        return layer.transpose_sum((share, turned), (plain, size), values)
    carried, extra = layer.transpose(share, plain, values), layer.transpose(turned, size, values)
    compute_in_blocks(_add_signed, carried, extra, values)
    return carried


def _multiply_by_sign(turned: Tensor, share: Tensor, result: Tensor) -> None:
    """The share times the sign of the result; where that is 0, so is the share."""
    torch.mul(share, torch.sign(result), out=turned)


def _add_signed(carried: Tensor, extra: Tensor, values: Tensor) -> None:
    """carried + extra; carried - extra where the value is negative."""
    carried.add_(torch.where(values < 0, -extra, extra))


def build_z_plus_rule() -> Rule:
    """r_i = sum_j (x_i w_ij)+ / sum_i (x_i w_ij)+ r_j: only what raises a unit receives relevance; biases are left out."""

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor) -> Tensor:
        plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        signed = bool(values.amin() < 0)
        if signed:
            raising = layer.apply(values.clamp(min=0), plus) + layer.apply(values.clamp(max=0), minus)
        else:
            raising = layer.apply(values, plus)
        share = (signal * result).div_(raising + TINY).mul_(raising > 0)
        carried = layer.transpose(share, plus, values)
        return torch.where(values < 0, layer.transpose(share, minus, values), carried) if signed else carried

    return rule


def apply_bounded_rule(
    layer: Affine, values: Tensor, low: Tensor, high: Tensor, relevance: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """z^B rule for pixels between `low` and `high`: r_i = sum_j (x_i w_ij - l_i w+_ij - h_i w-_ij) / (sum over i) r_j.

    Returns the factors of x, l and h, whose products add up to the relevance. `low` and `high` are the same for every
    image.
    """
    plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    least = layer.apply(low[:1], plus) + layer.apply(high[:1], minus)
    total = layer.apply(values, layer.weight)

    def compute_signal(total: Tensor, relevance: Tensor, least: Tensor) -> None:
        total.sub_(least).clamp_(min=0)
        torch.div(relevance, total + TINY, out=relevance)
        torch.ops.aten.threshold_backward.grad_input(relevance, total, 0, grad_input=relevance)

    compute_in_blocks_beside(compute_signal, (total, relevance), (least,))
    all_weights, positive = layer.transpose_each(relevance, (layer.weight, plus), values)
    return all_weights, -positive, positive - all_weights
