"""How one affine layer z_j = sum_i x_i w_ij + b_j hands the relevance of its outputs to its inputs.

A rule takes the layer, its argument x, its result z and the signal c_z of z, which has relevance r = z * c_z; it returns the
signal of x, whose relevance is x times it.

Steps that pass relevance instead of a gradient: the signal c of a tensor x means relevance x * c.
A forward pass whose backward pass carries relevance: every layer gets its rule, nothing unknown gets through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional

from seewhy.explainers._backward_rules.affine import Affine, Convolution, affine_layer
from seewhy.explainers._backward_rules.deep_lift import bounds_of
from seewhy.explainers._backward_rules.elementwise import SPELLINGS, Elementwise, elementwise
from seewhy.explainers._backward_rules.function_mode import GraphWatch, Keeper, Kept, Step, run, tensors_in
from seewhy.models.fusion.autograd_graph import STRUCTURAL, in_blocks, in_blocks_beside, is_linear, operation, spoken

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

    For inputs that are never negative and z_j > 0 this is w_ij + gamma max(w_ij, 0), as published. A term t has the sign
    of z in (|t| + t sign(z)) / 2, so the denominator is |z| (1 + gamma / 2) + gamma / 2 (sum of all |t|).
    """

    def rule(layer: Affine, values: Tensor, result: Tensor, signal: Tensor) -> Tensor:
        signed = bool(values.amin() < 0)
        bias = None if layer.bias is None else layer.bias.abs()
        share = layer.apply(values.abs() if signed else values, layer.weight.abs(), bias)
        fallen = [False]

        def share_of(total: Tensor, result: Tensor, signal: Tensor) -> None:
            size = result.abs()
            total.mul_(gamma / 2).add_(size, alpha=1 + gamma / 2).add_(TINY)
            torch.div(size, total, out=total).mul_(signal)
            fallen[0] = fallen[0] or _any_negative(total, result)

        in_blocks(share_of, share, result, signal)
        return _boosted(layer, values, share, result if fallen[0] else None, gamma, signed)

    return rule


def _any_negative(share: Tensor, result: Tensor) -> bool:
    """Whether a negative result has a share."""
    found = torch.ops.aten.hardtanh_backward(share, result, -torch.inf, 0)
    return bool(found.amax() != 0) or bool(found.amin() != 0)


def _boosted(layer: Affine, values: Tensor, share: Tensor, result: Tensor | None, gamma: float, signed: bool) -> Tensor:
    """The shares carried back with the terms of the result's sign taken (1 + gamma) times.

    With s the shares and T(s, W) for s carried back with the weights W, an input x gets
    (1 + gamma / 2) T(s, W) + sign(x) gamma / 2 T(s sign(z), |W|). `result`: None where no negative one has a share.
    """
    plain, size = layer.weight * (1 + gamma / 2), layer.weight.abs().mul_(gamma / 2)
    if result is None and not signed:
        return layer.transposed(share, plain.add_(size), values)
    if result is None:
        rising, falling = layer.transposed_each(share, (plain + size, plain - size), values)
        return torch.where(values < 0, falling, rising)
    turned = torch.empty_like(share)
    in_blocks(_turn, turned, share, result)
    if not signed:
        return layer.transposed_sum((share, turned), (plain, size), values)
    carried, extra = layer.transposed(share, plain, values), layer.transposed(turned, size, values)
    in_blocks(_add_signed, carried, extra, values)
    return carried


def _turn(turned: Tensor, share: Tensor, result: Tensor) -> None:
    """The share times the sign of the result; where that is 0, so is the share."""
    torch.mul(share, torch.sign(result), out=turned)


def _add_signed(carried: Tensor, extra: Tensor, values: Tensor) -> None:
    """carried + extra; carried - extra where the value is negative."""
    carried.add_(torch.where(values < 0, -extra, extra))


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
    least = layer.apply(low[:1], plus) + layer.apply(high[:1], minus)
    total = layer.apply(values, layer.weight)

    def signal_of(total: Tensor, relevance: Tensor, least: Tensor) -> None:
        total.sub_(least).clamp_(min=0)
        torch.div(relevance, total + TINY, out=relevance)
        torch.ops.aten.threshold_backward.grad_input(relevance, total, 0, grad_input=relevance)

    in_blocks_beside(signal_of, (total, relevance), (least,))
    whole, part = layer.transposed_each(relevance, (layer.weight, plus), values)
    return whole, -part, part - whole


def positive_terms(layer: Affine, values: Tensor, signed: bool, with_bias: bool = True) -> Tensor:
    """Sum of those terms x_i w_ij (and b_j) that are positive, for each output j; `signed`: whether any x_i < 0."""
    plus = layer.weight.clamp(min=0)
    bias = layer.bias.clamp(min=0) if with_bias and layer.bias is not None else None
    if not signed:
        return layer.apply(values, plus, bias)
    minus = layer.weight.clamp(max=0)
    return layer.apply(values.clamp(min=0), plus, bias) + layer.apply(values.clamp(max=0), minus)


class AffineStep(Step):
    """A convolution or dense layer (with its batch normalisation) under one of the relevance rules."""

    def __init__(self, layer: Affine, rule: Rule, keeper: Keeper, result: Tensor | None = None) -> None:
        self.layer = layer
        self.rule = rule
        self.keeper = keeper
        self.result = result
        self.kept: list[Kept]

    def forward(self, *operands: Tensor) -> Tensor:
        """The layer's result, or the one that is known already. Operands: x, and in the first layer its bounds."""
        result, self.result = self.result, None
        if result is None:
            result = self.layer.apply(operands[0], self.layer.weight, self.layer.bias)
        self.kept = [self.keeper.keep(values) for values in (result, *operands)]
        return result

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """The rule, or the rule for bounded pixels in the first layer."""
        result, *operands = (kept.take() for kept in self.kept)
        if len(operands) == 3:
            return bounded_rule(self.layer, operands[0], operands[1], operands[2], result * signal)
        return (self.rule(self.layer, operands[0], result, signal),)


class Ratio(Step):
    """An activation y = f(x) with f(0) = 0: its argument takes all the relevance of its result, c_x = c_y y / x.

    `high`: f is min(max(x, 0), high).
    """

    def __init__(self, function: Callable[[Tensor], Tensor], in_place: bool, high: float | None = None) -> None:
        self.function = function
        self.in_place = in_place
        self.high = high
        self.ratio: Tensor

    def forward(self, *operands: Tensor) -> Tensor:
        """f(x)."""
        (values,) = operands
        self.ratio = torch.empty_like(values)
        if self.high is not None:
            result = values if self.in_place else torch.empty_like(values)
            in_blocks(self._cut, self.ratio, result, values)
            return result
        result = self.function(values)
        in_blocks(_ratio, self.ratio, result, values)
        return values.copy_(result) if self.in_place else result

    def _cut(self, ratio: Tensor, result: Tensor, values: Tensor) -> None:
        """f(x), and f(x) / x where x > 0; else f(x) = 0 is divided by something positive."""
        torch.clamp(values, min=torch.finfo(values.dtype).tiny, out=ratio)
        torch.clamp(values, 0, self.high, out=result)
        torch.div(result, ratio, out=ratio)

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """y / x times the signal, in the memory of the ratio."""
        return (self.ratio.mul_(signal),)


def _ratio(ratio: Tensor, result: Tensor, values: Tensor) -> None:
    """y / x; 0 where both are 0."""
    torch.div(result, values + (values == 0), out=ratio)


GATES = frozenset(("sigmoid", "hardsigmoid"))
HOMOGENEOUS = frozenset(("relu", "leaky_relu", "prelu"))
"""Activations whose gradient is y / x already."""
AS_GRADIENT = frozenset(
    "AdaptiveMaxPool2D Amax Div LeakyRelu LocalRule MaxPool2DWithIndices Mul NativeBatchNorm PreluKernel Relu".split()
)
"""Operations whose own gradient carries relevance rightly, beside those of pure structure."""
ARRANGING = frozenset(
    "__get__ __getitem__ chunk clone contiguous dim expand expand_as flatten float is_contiguous narrow permute "
    "reshape select size split squeeze to transpose type_as unsqueeze view view_as".split()
)
"""Functions that only move values about."""
SCALING = frozenset("mul __mul__ __rmul__ mul_ __imul__ multiply div __truediv__ div_ true_divide".split())


class RelevanceWatch(GraphWatch):
    """`conv_rule` and `dense_rule` say how layers share relevance; with `bounds` (low, high), the z^B rule at the image.

    A sigmoid or hard sigmoid is a gate: it may only weigh another activation and takes no relevance.
    """

    def __init__(
        self, network: nn.Module, method: str, conv_rule: Rule, dense_rule: Rule, bounds: tuple[Tensor, Tensor] | None
    ) -> None:
        super().__init__(network, method, "integrated_gradients")
        self.rules = conv_rule, dense_rule
        self.bounds = bounds
        self.leaves: tuple[Tensor, ...] = ()
        self.reached_image = False
        self._keeper = Keeper()
        self._bounded: dict[int, tuple[Tensor, ...]] = {}
        self._gates: dict[int, Tensor] = {}
        self._last: tuple[Tensor, Affine, tuple[Tensor, ...]] | None = None

    def enter(self, normalised: Tensor) -> Tensor:
        """The network's argument as the leaf at which the relevance arrives."""
        leaves = [normalised.detach()]
        leaves += [bound.expand_as(normalised) for bound in self.bounds or ()]
        self.leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        if self.bounds:
            self._bounded[id(self.leaves[0])] = self.leaves
        return self.leaves[0]

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of the function, with its rule."""
        self._keeper.protect(func, args, kwargs)
        if not torch.is_grad_enabled() or not any(each.requires_grad for each in tensors_in((args, *kwargs.values()))):
            return self._gated(func, args, kwargs) if self._gates else func(*args, **kwargs)
        layer = affine_layer(func, args, kwargs)
        if layer is not None:
            return self._affine(*layer)
        if func is functional.batch_norm and self._last is not None and args[0] is self._last[0]:
            return self._normalised(func, args, kwargs)
        call = elementwise(func, args, kwargs) if func in SPELLINGS else None
        if call is not None and call.name not in HOMOGENEOUS:
            return self._activation(call)
        if args and id(args[0]) in self._bounded:
            return self._at_image(func, args, kwargs)
        return self._gated(func, args, kwargs) if self._gates else func(*args, **kwargs)

    def visit(self, node: Node) -> None:
        """Everything that carries relevance must be known to do so rightly."""
        name = operation(node)
        nonlinear = name in ("Mul", "Div", "NativeBatchNorm") and not is_linear(node)
        if nonlinear or not (name in STRUCTURAL or name in AS_GRADIENT):
            self.refuse("`mul` of two activations" if name == "Mul" else f"`{spoken(node)}`")

    def is_constant(self, result: Tensor) -> bool:
        """Gates carry no relevance."""
        return id(result) in self._gates

    def _affine(self, layer: Affine, values: Tensor, result: Tensor | None = None) -> Tensor:
        operands = self._bounded.get(id(values), (values,))
        return self._run(layer, operands, result)

    def _run(self, layer: Affine, operands: tuple[Tensor, ...], result: Tensor | None = None) -> Tensor:
        rule = self.rules[0] if isinstance(layer, Convolution) else self.rules[1]
        output = run(AffineStep(layer, rule, self._keeper, result), operands)
        self.reached_image |= len(operands) == 3
        self._last = output, layer, operands
        return output

    def _normalised(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """Batch normalisation right behind a layer is a part of it."""
        assert self._last is not None
        raw, layer, operands = self._last
        names = ("input", "mean", "var", "weight", "bias", "training", "momentum", "eps")
        given = dict(zip(names, args, strict=False)) | {key.removeprefix("running_"): kwargs[key] for key in kwargs}
        if given.get("training"):
            return func(*args, **kwargs)
        factor = (given["var"] + given.get("eps", 1e-5)).rsqrt()
        if given.get("weight") is not None:
            factor = factor * given["weight"]
        shift = -given["mean"] * factor
        if given.get("bias") is not None:
            shift = shift + given["bias"]
        result = func(raw.detach(), *args[1:], **kwargs)
        return self._run(layer.rescaled(factor, shift), operands, result)

    def _activation(self, call: Elementwise) -> Tensor:
        if call.name in GATES:
            result = call.function(call.argument.detach())
            gate = call.argument.detach().copy_(result) if call.in_place else result
            self._gates[id(gate)] = gate
            return gate
        if call.function(call.argument.detach().new_zeros(1)).abs().item() != 0:
            self.refuse(f"`{call.name}`, which is not 0 at 0,")
        bounds = bounds_of(call, call.argument)
        high = bounds[1] if bounds is not None and bounds[0] == 0 < bounds[1] else None
        return run(Ratio(call.function, call.in_place, high), (call.argument,))

    def _at_image(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Padding or rearranging the image does the same to its bounds."""
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if isinstance(result, Tensor) and (name == "pad" or name in ARRANGING) and result is not args[0]:
            leaves = self._bounded[id(args[0])]
            self._bounded[id(result)] = result, *(func(leaf, *args[1:], **kwargs) for leaf in leaves[1:])
        return result

    def _gated(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A gate may be rearranged, scaled, and multiplied with an activation; nothing else."""
        gates = [each for each in tensors_in((args, *kwargs.values())) if id(each) in self._gates]
        result = func(*args, **kwargs)
        if not gates:
            return result
        name = getattr(func, "__name__", "")
        if name not in ARRANGING and name not in SCALING:
            self.refuse("`sigmoid` as an activation")
        for each in tensors_in(result):
            if not each.requires_grad:
                self._gates[id(each)] = each
        return result
