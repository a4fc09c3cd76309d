"""Layer-wise relevance propagation as a backward pass: the signal c of a tensor x stands for the relevance x * c.

With this convention the gradient of many operations already carries relevance: structure (reshaping, sums, concatenation)
hands it on, ReLU and max pooling give all of it to the inputs that made the result. What remains gets a rule: affine layers,
with what follows them alone, share the relevance of their outputs by a `Rule` of `relevance_rules` (`AffineOp`); other
activations, gates, attention and normalisations have those of `balanced`. `RelevanceMode` sets these rules while the network
runs and refuses everything else; `compute_relevance` is the front.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional

from seewhy.core.errors import Incompatible
from seewhy.core.tensors import compute_in_blocks, widen
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.balanced import ARRANGING, GATES, AttentionRule, BalancedMode
from seewhy.explainers._backward_rules.calls import (
    SPELLINGS,
    Affine,
    Contraction,
    Convolution,
    Dense,
    Elementwise,
    parse_affine,
    parse_batch_norm,
    parse_elementwise,
)
from seewhy.explainers._backward_rules.relevance_rules import Activation, Rule, apply_bounded_rule
from seewhy.explainers._backward_rules.rule_mode import (
    WRITING_METHODS,
    RuleOp,
    SavedTensor,
    SavedTensors,
    apply_rule,
    iterate_tensors,
)
from seewhy.models.fusion.chain import PRODUCTS, name_operation
from seewhy.models.fusion.internals import count_writes, is_view

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier


MATRIX_PRODUCTS = frozenset(PRODUCTS) - {"Mul", "NativeBatchNorm", "Addcmul"}
"""Operations with weights that are layers; what multiplies element by element shares nothing between inputs."""
SUMS = frozenset("add __add__ __radd__ add_ __iadd__".split())
"""Functions that add a bias to a product."""


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

    activation: Activation | None = None

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
            return apply_bounded_rule(self.layer, operands, result, signal, self.activation)
        return (self.rule(self.layer, operands[0], result, signal, self.activation),)

    def forget(self) -> None:
        """Let go of what the way back needs: another operation has taken this one's place."""
        for saved in self.saved:
            saved.forget()


class FollowedOp(AffineOp):
    """A layer together with an activation or a constant sum behind it, which `run(z, in_place)` computes.

    Neither y / z nor, with ReLU, z itself has to be kept. In place y is written into the memory of z, which is then the
    first operand and gets no signal.
    """

    def __init__(
        self, before: LastLayer, layer: Affine, activation: Activation | None, run: Run, in_place: bool
    ) -> None:
        super().__init__(layer, before.op.rule, before.op.tensors, before.output.detach())
        self.activation = activation
        self.run = run
        self.in_place = in_place

    def forward(self, *operands: Tensor) -> Tensor:
        """Compute y. Operands: in place z; then those of the layer."""
        values, self.result = self.result, None
        assert values is not None
        kept = values
        if self.in_place:
            values, *operands = operands  # type: ignore[assignment]
        keeps_result = self.activation is None or self.activation.is_relu
        if self.activation is not None and self.activation.high is not None and not keeps_result:
            keeps_result = len(operands) == 3 or not self.rule.needs_argument(self.layer)
            if keeps_result:
                self.activation = replace(self.activation, high=math.inf)  # from here on y serves as z
        if keeps_result or not self.in_place:
            result = self.run(values, self.in_place)
            kept = result if keeps_result else kept
        else:
            result, kept = values, torch.empty_like(values)
            compute_in_blocks(self._copy_and_run, kept, result)
        self.saved = [self.tensors.save(each) for each in (kept, *operands)]
        return result

    def _copy_and_run(self, kept: Tensor, values: Tensor) -> None:
        kept.copy_(values)
        self.run(values, True)

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """Apply the rule of the layer."""
        signals = super().backward(signal)
        return (None, *signals) if self.in_place else signals


class LastLayer(NamedTuple):
    """The layer that ran last: what may follow it belongs to it."""

    output: Tensor
    op: AffineOp
    operands: tuple[Tensor, ...]
    writes: int | None
    """How often its output had been written into: a residual sum in place makes something else of it."""

    def is_in(self, args: object) -> bool:
        """Whether its output, as it came out, is among the arguments of a call."""
        is_there = any(each is self.output for each in iterate_tensors(args))
        return is_there and count_writes(self.output) == self.writes


Run = Callable[[Tensor, bool], Tensor]
"""(z, in place or not) -> y."""


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
        self._last: LastLayer | None = None
        self._rectified: tuple[Tensor, int | None] | None = None
        """The result of the last rectifier, and how often it had been written into."""
        self._is_fresh = False
        """Whether nothing has read the result of the last layer yet."""

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
        last = self._last
        follows = last is not None and last.is_in((args, *kwargs.values()))
        op = self._follow(func, args, kwargs) if follows and torch.is_grad_enabled() else None
        if op is not None:
            if op.in_place and self._is_fresh:
                last.op.forget()  # type: ignore[union-attr]
            self._saved.copy_before(func, args, kwargs)
            return self._run_following(op)
        self._saved.copy_before(func, args, kwargs)
        result = super().call(func, args, kwargs)
        if follows and last is self._last and any(True for _ in iterate_tensors(result)):
            self._is_fresh = False
        return result

    def visit(self, node: Node) -> None:
        """Refuse a product with weights that ran unseen: it has no rule of its own."""
        if name_operation(node) in MATRIX_PRODUCTS:
            self.refuse_node(node)
        super().visit(node)

    def run_with_rule(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a function of activations with another gradient; NotImplemented where it keeps its own."""
        layer = parse_affine(func, args, kwargs)
        if layer is not None and layer[1].requires_grad and not self._find_gates(args, kwargs):
            return self._run_affine(layer[0], self._bounded.get(id(layer[1]), (layer[1],)))
        if func is functional.batch_norm and self._last is not None and self._last.is_in(args[:1]):
            return self._run_batch_norm(func, args, kwargs)
        result = super().run_with_rule(func, args, kwargs)
        if result is NotImplemented and args and id(args[0]) in self._bounded:
            return self._arrange_image(func, args, kwargs)
        return result

    def _run_affine(self, layer: Affine, operands: tuple[Tensor, ...], result: Tensor | None = None) -> Tensor:
        if self._rectified is not None and self._rectified[0] is operands[0]:
            layer = replace(layer, rising=count_writes(operands[0]) == self._rectified[1])
        op = AffineOp(layer, self.rules[0] if layer.is_convolution else self.rules[1], self._saved, result)
        output = apply_rule(op, operands)
        self.reached_image |= len(operands) == 3
        self._last, self._is_fresh = LastLayer(output, op, operands, count_writes(output)), True
        return output

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> FollowedOp | None:
        """The last layer with the activation or bias that a call adds to it; None for any other call."""
        last = self._last
        assert last is not None
        call = parse_elementwise(func, args, kwargs) if func in SPELLINGS else None
        activation = self._find_activation(call) if call is not None else None
        if call is not None and activation is not None:
            return FollowedOp(last, last.op.layer, activation, activation.run, call.in_place)
        name, layer = getattr(func, "__name__", ""), last.op.layer
        in_place = name in WRITING_METHODS or name.endswith("add_")
        if name not in SUMS or not isinstance(layer, Contraction) or len(args) != 2 or kwargs:
            return None
        bias = args[1] if args[0] is last.output else args[0]
        if not isinstance(bias, Tensor) or bias.requires_grad or bias.squeeze().ndim > 1:  # positions are no bias
            return None
        if in_place and is_view(last.output):
            return None
        widened = replace(layer, bias=bias if layer.bias is None else layer.bias + bias)
        return FollowedOp(last, widened, None, lambda z, writes: z.add_(bias) if writes else z + bias, in_place)

    def _find_activation(self, call: Elementwise) -> Activation | None:
        """The activation that may be one with the layer before it; None for gates and what is refused."""
        if call.name in GATES or not call.is_uniform or (call.in_place and is_view(call.argument)):
            return None
        bounds = call.find_clamp_bounds()
        if bounds is not None and bounds[0] == 0 < bounds[1]:
            return Activation(call.function, bounds[1])
        at_zero = call.function(call.argument.detach().new_zeros(1)).item()
        return Activation(call.function, None) if at_zero == 0 else None

    def _run_following(self, op: FollowedOp) -> Tensor:
        """What follows a layer alone belongs to it: both have one rule."""
        assert self._last is not None
        output, _, operands, _ = self._last
        result = apply_rule(op, (output, *operands) if op.in_place else operands)
        if op.activation is not None and op.activation.high is not None:
            self._rectified = result, count_writes(result)
        self._last = LastLayer(result, op, operands, count_writes(result)) if op.activation is None else None
        self._is_fresh = True
        return result

    def _run_batch_norm(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """Batch normalisation right behind a layer belongs to it: the layer runs again, with its factors."""
        assert self._last is not None
        raw, (layer, operands) = self._last.output, (self._last.op.layer, self._last.operands)
        normalisation = parse_batch_norm(func, args, kwargs)
        if normalisation is None or not isinstance(layer, Dense | Convolution):
            return func(*args, **kwargs)
        result = func(raw.detach(), *args[1:], **kwargs)
        return self._run_affine(layer.rescale(*normalisation), operands, result)

    def _arrange_image(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Padding or rearranging the image does the same to its bounds."""
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if isinstance(result, Tensor) and (name == "pad" or name in ARRANGING) and result is not args[0]:
            leaves = self._bounded[id(args[0])]
            self._bounded[id(result)] = result, *(func(leaf, *args[1:], **kwargs) for leaf in leaves[1:])
        return result
