"""How one affine layer z_j = sum_i x_i w_ij + b_j hands the relevance of its outputs to its inputs.

A rule takes the layer, its argument x, its result z and the signal c_z of z, which has relevance r = z * c_z; it returns the
signal of x, whose relevance is x times it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seewhy.explainers.rules.affine import Affine

Rule = Callable[[Affine, Tensor, Tensor, Tensor], Tensor]

TINY = 1e-9
"""Keeps a denominator of zero, whose numerator is zero as well, from giving NaN."""


def epsilon_rule(epsilon: float) -> Rule:
    """r_i = sum_j x_i w_ij / (z_j + epsilon sign(z_j)) r_j: absorbs what the bias and epsilon contribute."""

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor) -> Tensor:
        size = result.abs()
        share = size / (size + max(epsilon, TINY**2))
        return layer.transposed(share.mul_(signal), layer.weight, values.shape)

    return rule


def gamma_rule(gamma: float) -> Rule:
    """The epsilon rule (epsilon = 0) with the terms x_i w_ij that have the sign of z_j taken (1 + gamma) times.

    For inputs that are never negative and z_j > 0 this is w_ij + gamma max(w_ij, 0), as published.
    """

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor) -> Tensor:
        signed = bool(values.amin() < 0)
        # |z + gamma * (terms of z's sign)|, because the terms of the other sign are z minus those
        size = result.abs()
        total = positive_terms(layer, values, signed).mul_(gamma).add_(result, alpha=-gamma / 2)
        total.add_(size, alpha=1 + gamma / 2).add_(TINY)
        return _boosted(layer, values, size.div_(total).mul_(signal), result < 0, gamma, signed)

    return rule


def _boosted(layer: Affine, values: Tensor, share: Tensor, falling: Tensor, gamma: float, signed: bool) -> Tensor:
    """The shares carried back with the terms of the result's sign taken (1 + gamma) times.

    W- = W - W+ saves computing with the negative weights, which matter where an input or a result is negative.
    """
    plus = layer.weight.clamp(min=0)
    fallen = share * falling
    any_fallen = bool(fallen.any())
    if not any_fallen and not signed:
        return layer.transposed(share, plus.mul_(gamma).add_(layer.weight), values.shape)
    extra = layer.transposed(share.sub(fallen, alpha=2) if any_fallen else share, plus, values.shape).mul_(gamma)
    whole = layer.transposed(share, layer.weight, values.shape)
    fell = layer.transposed(fallen, layer.weight, values.shape).mul_(gamma) if any_fallen else None
    if not signed:
        return whole.add_(extra) if fell is None else whole.add_(extra).add_(fell)
    rose = whole * gamma if fell is None else (whole * gamma).sub_(fell)
    return whole + torch.where(values < 0, rose - extra, extra if fell is None else extra + fell)


def z_plus_rule() -> Rule:
    """r_i = sum_j (x_i w_ij)+ / sum_i (x_i w_ij)+ r_j: only what raises a unit receives relevance; biases are left out."""

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor) -> Tensor:
        signed = bool(values.amin() < 0)
        raising = positive_terms(layer, values, signed, with_bias=False)
        share = (signal * result).div_(raising + TINY).mul_(raising > 0)
        carried = layer.transposed(share, layer.weight.clamp(min=0), values.shape)
        if not signed:
            return carried
        return torch.where(values < 0, layer.transposed(share, layer.weight.clamp(max=0), values.shape), carried)

    return rule


def bounded_rule(
    layer: Affine, values: Tensor, low: Tensor, high: Tensor, relevance: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """z^B rule for pixels between `low` and `high`: r_i = sum_j (x_i w_ij - l_i w+_ij - h_i w-_ij) / (sum over i) r_j.

    Returns the factors of x, l and h, whose products add up to the relevance. `low` and `high` are the same for every
    image.
    """
    plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    total = layer.apply(values, layer.weight) - layer.apply(low[:1], plus) - layer.apply(high[:1], minus)
    signal = (relevance / (total + TINY)).mul_(total > 0)
    shape = values.shape
    whole = layer.transposed(signal, layer.weight, shape)
    part = layer.transposed(signal, plus, shape)
    return whole, -part, part - whole


def positive_terms(layer: Affine, values: Tensor, signed: bool, with_bias: bool = True) -> Tensor:
    """Sum of those terms x_i w_ij (and b_j) that are positive, for each output j; `signed`: whether any x_i < 0."""
    plus = layer.weight.clamp(min=0)
    bias = layer.bias.clamp(min=0) if with_bias and layer.bias is not None else None
    if not signed:
        return layer.apply(values, plus, bias)
    minus = layer.weight.clamp(max=0)
    return layer.apply(values.clamp(min=0), plus, bias) + layer.apply(values.clamp(max=0), minus)
