"""How one affine layer z_j = sum_i x_i w_ij + b_j hands the relevance of its outputs to its inputs.

A rule takes the layer, its argument x, its result z and the signal c_z of z, which has relevance r = z * c_z; it returns the
signal of x, whose relevance is x times it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seewhy.explainers.rules.affine import Affine
from seewhy.explainers.rules.blocks import in_blocks

Rule = Callable[[Affine, Tensor, Tensor, Tensor], Tensor]

TINY = 1e-9
"""Keeps a denominator of zero, whose numerator is zero as well, from giving NaN."""


def epsilon_rule(epsilon: float) -> Rule:
    """r_i = sum_j x_i w_ij / (z_j + epsilon sign(z_j)) r_j: absorbs what the bias and epsilon contribute."""

    def share_of(share: Tensor, result: Tensor, signal: Tensor) -> None:
        size = result.abs()
        torch.div(size, size + max(epsilon, TINY**2), out=share).mul_(signal)

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor) -> Tensor:
        share = torch.empty_like(result)
        in_blocks(share_of, share, result, signal)
        return layer.transposed(share, layer.weight, values)

    return rule


def gamma_rule(gamma: float) -> Rule:
    """The epsilon rule (epsilon = 0) with the terms x_i w_ij that have the sign of z_j taken (1 + gamma) times.

    For inputs that are never negative and z_j > 0 this is w_ij + gamma max(w_ij, 0), as published.
    """

    def share_of(total: Tensor, result: Tensor, signal: Tensor) -> None:
        # |z + gamma * (terms of z's sign)|, because the terms of the other sign are z minus those
        size = result.abs()
        total.mul_(gamma).add_(result, alpha=-gamma / 2).add_(size, alpha=1 + gamma / 2).add_(TINY)
        torch.div(size, total, out=total).mul_(signal)

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor) -> Tensor:
        signed = bool(values.amin() < 0)
        share = positive_terms(layer, values, signed)
        in_blocks(share_of, share, result, signal)
        return _boosted(layer, values, share, result, gamma, signed)

    return rule


def _boosted(layer: Affine, values: Tensor, share: Tensor, result: Tensor, gamma: float, signed: bool) -> Tensor:
    """The shares carried back with the terms of the result's sign taken (1 + gamma) times.

    With s the shares, f those of negative results, and T(s, W) for s carried back with the weights W, an input x >= 0
    gets T(s + gamma f, W) + T(s - 2 f, gamma W+), and x < 0 gets T((1 + gamma) s - gamma f, W) - T(s - 2 f, gamma W+):
    W- = W - W+ saves computing with the negative weights.
    """
    plus = layer.weight.clamp(min=0).mul_(gamma)
    fallen = _of_negative(share, result)
    if fallen is None and not signed:
        return layer.transposed(share, plus.add_(layer.weight), values)
    extra = layer.transposed(share if fallen is None else share.sub(fallen, alpha=2), plus, values)
    rising = layer.transposed(share if fallen is None else share.add(fallen, alpha=gamma), layer.weight, values)
    if not signed:
        return rising.add_(extra)
    if fallen is None:
        falling = rising * (1 + gamma)
    else:
        falling = layer.transposed(share.mul_(1 + gamma).sub_(fallen, alpha=gamma), layer.weight, values)
    in_blocks(_by_sign, rising, falling, extra, values)
    return rising


def _of_negative(share: Tensor, result: Tensor) -> Tensor | None:
    """The shares where the result is negative, 0 elsewhere; None where all of them are 0."""
    fallen = torch.empty_like(share)
    found = []

    def take(fallen: Tensor, share: Tensor, result: Tensor) -> None:
        torch.mul(share, result < 0, out=fallen)
        found.append(bool(fallen.any()))

    in_blocks(take, fallen, share, result)
    return fallen if any(found) else None


def _by_sign(rising: Tensor, falling: Tensor, extra: Tensor, values: Tensor) -> None:
    """rising + extra; falling - extra where the value is negative."""
    rising.copy_(torch.where(values < 0, falling - extra, rising + extra))


def z_plus_rule() -> Rule:
    """r_i = sum_j (x_i w_ij)+ / sum_i (x_i w_ij)+ r_j: only what raises a unit receives relevance; biases are left out."""

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor) -> Tensor:
        signed = bool(values.amin() < 0)
        raising = positive_terms(layer, values, signed, with_bias=False)
        share = (signal * result).div_(raising + TINY).mul_(raising > 0)
        carried = layer.transposed(share, layer.weight.clamp(min=0), values)
        if not signed:
            return carried
        return torch.where(values < 0, layer.transposed(share, layer.weight.clamp(max=0), values), carried)

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
    whole = layer.transposed(signal, layer.weight, values)
    part = layer.transposed(signal, plus, values)
    return whole, -part, part - whole


def positive_terms(layer: Affine, values: Tensor, signed: bool, with_bias: bool = True) -> Tensor:
    """Sum of those terms x_i w_ij (and b_j) that are positive, for each output j; `signed`: whether any x_i < 0."""
    plus = layer.weight.clamp(min=0)
    bias = layer.bias.clamp(min=0) if with_bias and layer.bias is not None else None
    if not signed:
        return layer.apply(values, plus, bias)
    minus = layer.weight.clamp(max=0)
    return layer.apply(values.clamp(min=0), plus, bias) + layer.apply(values.clamp(max=0), minus)
