"""Layer-wise relevance propagation as a backward pass: the signal c of a tensor x stands for the relevance x * c.

With this convention the gradient of many operations already carries relevance: structure (reshaping, sums, concatenation)
hands it on, ReLU and max pooling give all of it to the inputs that made the result. What remains gets a rule: affine layers
share the relevance of their outputs by a `Rule` (`AffineOp`); activations, gates, attention and normalisations have those of
`balanced`. `RelevanceMode` sets these rules while the network runs and refuses everything else; `compute_relevance` is the
front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seewhy.core.errors import Incompatible
from seewhy.core.tensors import compute_in_blocks, compute_in_blocks_beside, widen
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.balanced import ARRANGING, AttentionRule, BalancedMode
from seewhy.explainers._backward_rules.calls import Affine, Convolution, parse_affine
from seewhy.explainers._backward_rules.rule_mode import RuleOp, SavedTensor, SavedTensors, apply_rule

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier


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


def compute_relevance(
    classifier: Classifier,
    images: Images,
    targets: Targets,
    conv_rule: Rule,
    dense_rule: Rule,
    bounded: bool,
    attention: AttentionRule | None = None,
) -> tuple[Images, Tensor]:
    """Propagate the relevance of each image's target score to the pixels.

    Args:
        classifier: The classifier, frozen.
        images: float32 [n, 3, height, width] in [0, 1].
        targets: The target of each image.
        conv_rule: How convolutions share relevance.
        dense_rule: How dense layers share it.
        bounded: Whether the first layer uses the z^B rule for pixels between 0 and 1 instead.
        attention: The rule of attention, with which normalisations and products have one too; None: they have none.

    Returns:
        (relevance [n, 3, height, width], score of the target [n]).

    Raises:
        Incompatible: At an operation without a rule, or if `bounded` finds no first layer.
    """
    bounds = ((0 - classifier.mean) / classifier.std, (1 - classifier.mean) / classifier.std) if bounded else None
    mode = RelevanceMode(classifier.network, conv_rule, dense_rule, bounds, attention)
    network = classifier.network
    hooks = [network.register_forward_pre_hook(lambda _, args: (mode.enter(args[0]), *args[1:]))]
    hooks.append(network.register_forward_hook(lambda _, args, returned: mode.check_outputs(returned)))
    try:
        with torch.enable_grad(), mode:
            logits = classifier(images)
            mode.visit_rest(logits)
    finally:
        for hook in hooks:
            hook.remove()
    if bounded and not mode.reached_image:
        raise Incompatible(
            "lrp with explainer.rule=composite needs a first layer that looks at the image itself, which this "
            "network has not; use explainer.rule=gamma"
        )
    with torch.enable_grad():
        score = targets.score(widen(logits))
        signals = torch.autograd.grad(score.sum(), mode.leaves, allow_unused=True)
    relevance = [leaf * signal for leaf, signal in zip(mode.leaves, signals, strict=True) if signal is not None]
    return torch.stack(relevance).sum(0).detach(), score.detach()


class AffineOp(RuleOp):
    """A convolution or dense layer (with its batch normalisation) under one of the relevance rules.

    `result`: that of the layer where it is computed already.
    """

    def __init__(self, layer: Affine, rule: Rule, tensors: SavedTensors, result: Tensor | None = None) -> None:
        self.layer = layer
        self.rule = rule
        self.tensors = tensors
        self.result = result
        self.saved: list[SavedTensor]

    def forward(self, *operands: Tensor) -> Tensor:
        """Run the layer. Operands: x, and in the first layer its bounds."""
        result, self.result = self.result, None
        if result is None:
            result = self.layer.apply(operands[0], self.layer.weight, self.layer.bias)
        self.saved = [self.tensors.save(values) for values in (result, *operands)]
        return result

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """Apply the rule, or that for bounded pixels in the first layer."""
        result, *operands = (saved.take() for saved in self.saved)
        if len(operands) == 3:
            return apply_bounded_rule(self.layer, operands[0], operands[1], operands[2], result * signal)
        return (self.rule(self.layer, operands[0], result, signal),)


class RelevanceMode(BalancedMode):
    """A forward pass whose backward pass carries relevance.

    A sigmoid or hard sigmoid is a gate: it may only weigh another activation and takes no relevance. With `bounds` (low,
    high) of the network's input, the first layer uses the z^B rule: the bounds accompany the image, as further leaves,
    until a layer reads it.
    """

    def __init__(
        self,
        network: nn.Module,
        conv_rule: Rule,
        dense_rule: Rule,
        bounds: tuple[Tensor, Tensor] | None,
        attention: AttentionRule | None = None,
    ) -> None:
        instead = "explainer.rule=attn_lrp or integrated_gradients" if attention is None else "integrated_gradients"
        super().__init__(network, "lrp", instead, attention)
        self.rules = conv_rule, dense_rule
        self.bounds = bounds
        self.leaves: tuple[Tensor, ...] = ()
        self.reached_image = False
        self._saved = SavedTensors()
        self._bounded: dict[int, tuple[Tensor, ...]] = {}
        self._last: tuple[Tensor, Affine, tuple[Tensor, ...]] | None = None

    def enter(self, normalised: Tensor) -> Tensor:
        """Make the network's input the leaf at which the relevance arrives."""
        leaves = [normalised.detach()]
        leaves += [bound.expand_as(normalised) for bound in self.bounds or ()]
        self.leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        if self.bounds:
            self._bounded[id(self.leaves[0])] = self.leaves
        return self.leaves[0]

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the function, with its rule if it needs one; what is saved of its operands stays as it is."""
        self._saved.copy_before(func, args, kwargs)
        return super().call(func, args, kwargs)

    def run_with_rule(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a function of activations with another gradient; NotImplemented where it keeps its own."""
        layer = parse_affine(func, args, kwargs)
        if layer is not None and layer[1].requires_grad:
            return self._run_affine(layer[0], self._bounded.get(id(layer[1]), (layer[1],)))
        if func is functional.batch_norm and self._last is not None and args[0] is self._last[0]:
            return self._run_batch_norm(func, args, kwargs)
        result = super().run_with_rule(func, args, kwargs)
        if result is NotImplemented and args and id(args[0]) in self._bounded:
            return self._arrange_image(func, args, kwargs)
        return result

    def _run_affine(self, layer: Affine, operands: tuple[Tensor, ...], result: Tensor | None = None) -> Tensor:
        rule = self.rules[0] if isinstance(layer, Convolution) else self.rules[1]
        output = apply_rule(AffineOp(layer, rule, self._saved, result), operands)
        self.reached_image |= len(operands) == 3
        self._last = output, layer, operands
        return output

    def _run_batch_norm(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """Batch normalisation right behind a layer belongs to it: the layer runs again, with its factors."""
        assert self._last is not None
        raw, layer, operands = self._last
        names = ("input", "mean", "var", "weight", "bias", "training", "momentum", "eps")
        call = dict(zip(names, args, strict=False)) | {key.removeprefix("running_"): kwargs[key] for key in kwargs}
        if call.get("training"):
            return func(*args, **kwargs)
        factor = (call["var"] + call.get("eps", 1e-5)).rsqrt()
        if call.get("weight") is not None:
            factor = factor * call["weight"]
        shift = -call["mean"] * factor
        if call.get("bias") is not None:
            shift = shift + call["bias"]
        result = func(raw.detach(), *args[1:], **kwargs)
        return self._run_affine(layer.rescale(factor, shift), operands, result)

    def _arrange_image(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Padding or rearranging the image does the same to its bounds."""
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if isinstance(result, Tensor) and (name == "pad" or name in ARRANGING) and result is not args[0]:
            leaves = self._bounded[id(args[0])]
            self._bounded[id(result)] = result, *(func(leaf, *args[1:], **kwargs) for leaf in leaves[1:])
        return result
