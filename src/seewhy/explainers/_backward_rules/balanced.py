"""A backward pass in which gradient times input is the output: what LRP and Libra-Grad share on transformers.

A function whose output is its gradient times its input hands all of its output on. Affine functions do so (what their
biases add stays with these), and so do ReLU and maxima. The others get another gradient (`BalancedMode`):

- An activation y = f(x) with f(0) = 0 passes y / x back (`ActivationOp`).
- A normalisation takes its scale for a constant (`NormalisationOp`); so do divisions, whose denominator is constant.
- A product of two activations passes half to each factor, one of n factors 1 / n (`ScaleOp`); a gate (a sigmoid that weighs
  an activation) is a constant.
- Attention is a product of weights and values. Either the weights are constant (`AttentionRule.CONSTANT`: CP-LRP and
  Libra-Grad), or weights and values share the relevance, and what the weights get goes through the softmax's gradient to
  queries and keys (`AttentionRule.SHARED`: AttnLRP).

Ali, Schnake, Eberle, Montavon, Mueller, Wolf: XAI for transformers: better explanations through conservative propagation,
ICML 2022. Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin, Samek: AttnLRP, ICML 2024. Mehri, Baghshah, Pilehvar:
Libra-Grad, arXiv 2411.16760.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional

from seewhy.core.tensors import compute_in_blocks
from seewhy.explainers._backward_rules.calls import SPELLINGS, Elementwise, parse_elementwise
from seewhy.explainers._backward_rules.rule_mode import RuleMode, RuleOp, apply_rule, iterate_tensors
from seewhy.explainers._backward_rules.transformer_calls import (
    DIVISIONS,
    EXPANDED,
    FUSED_ATTENTION,
    SOFTMAXES,
    Normalisation,
    depends,
    expand_call,
    find_factors,
    list_factors,
    parse_normalisation,
)
from seewhy.models.fusion.chain import STRUCTURAL, describe_operation, is_linear, list_sources, name_operation

GATES = frozenset(("sigmoid", "hardsigmoid"))
HOMOGENEOUS = frozenset(("relu", "leaky_relu", "prelu"))
"""Activations whose gradient is y / x already."""
AS_GRADIENT = frozenset(
    "AdaptiveMaxPool2D Amax Div LeakyRelu LocalRule MaxPool2DWithIndices Mul NativeBatchNorm PreluKernel Relu".split()
)
"""Operations whose own gradient carries relevance, beside those of pure structure."""
ARRANGING = frozenset(
    "__get__ __getitem__ chunk clone contiguous dim expand expand_as flatten float is_contiguous narrow permute "
    "reshape select size split squeeze to transpose type_as unsqueeze view view_as".split()
)
"""Functions that only move values about."""
SCALING = frozenset("mul __mul__ __rmul__ mul_ __imul__ multiply div __truediv__ div_ true_divide".split())
SCALES = frozenset("norm std std_mean var var_mean vector_norm linalg_vector_norm linalg_norm".split())
"""Functions that measure the size of their argument: constants, by which it may be divided."""
IN_PLACE_PRODUCTS = frozenset(("__imul__", "mul_", "multiply_"))


class AttentionRule(enum.Enum):
    """What attention does with relevance."""

    SHARED = "weights and values share it"
    CONSTANT = "the weights are constant"


class ActivationOp(RuleOp):
    """An activation y = f(x) with f(0) = 0: its argument takes all the relevance of its result, c_x = c_y y / x.

    `high`: f is min(max(x, 0), high).
    """

    def __init__(self, function: Callable[[Tensor], Tensor], in_place: bool, high: float | None = None) -> None:
        self.function = function
        self.in_place = in_place
        self.high = high
        self.ratio: Tensor

    def forward(self, *operands: Tensor) -> Tensor:
        """Compute f(x) and save y / x."""
        (values,) = operands
        self.ratio = torch.empty_like(values)
        if self.high is not None:
            result = values if self.in_place else torch.empty_like(values)
            compute_in_blocks(self._clamp_and_divide, self.ratio, result, values)
            return result
        result = self.function(values)
        compute_in_blocks(_divide, self.ratio, result, values)
        return values.copy_(result) if self.in_place else result

    def _clamp_and_divide(self, ratio: Tensor, result: Tensor, values: Tensor) -> None:
        """f(x), and f(x) / x where x > 0; else f(x) = 0 is divided by something positive."""
        torch.clamp(values, min=torch.finfo(values.dtype).tiny, out=ratio)
        torch.clamp(values, 0, self.high, out=result)
        torch.div(result, ratio, out=ratio)

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """y / x times the signal, in the memory of the ratio."""
        return (self.ratio.mul_(signal),)


def _divide(ratio: Tensor, result: Tensor, values: Tensor) -> None:
    """y / x; 0 where both are 0."""
    torch.div(result, values + (values == 0), out=ratio)


class NormalisationOp(RuleOp):
    """A normalisation whose scale is constant: c_x = (weight c_y - its mean) / sqrt(variance + eps)."""

    def __init__(self, call: Normalisation) -> None:
        self.call = call
        self.scale: Tensor

    def forward(self, *operands: Tensor) -> Tensor:
        """Compute y and save the scale, one number for each group."""
        result, self.scale = self.call.run(operands[0])
        return result

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """Carry the signal back."""
        carried = self.call.carry_back(self.call.split(self.call.weigh(signal))) * self.scale
        return (carried.reshape(signal.shape),)


class ScaleOp(RuleOp):
    """The operand itself, whose signal is multiplied by a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def forward(self, *operands: Tensor) -> Tensor:
        """Return a view of the operand."""
        return operands[0].view_as(operands[0])

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """The factor times the signal."""
        return (signal * self.factor,)


class BalancedMode(RuleMode):
    """A forward pass whose backward pass hands outputs on, as far as its operations have a rule; others are refused.

    Args:
        network: The network that runs inside the block.
        method: Name of the explainer, for refusals.
        alternatives: Explainers that a refusal recommends instead.
        attention: The rule of attention; None: operations of transformers have no rule.
    """

    def __init__(
        self, network: nn.Module, method: str, alternatives: str, attention: AttentionRule | None = None
    ) -> None:
        super().__init__(network, method, alternatives)
        self.attention = attention
        self._gates: dict[int, Tensor] = {}

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the function, with its rule if it needs one."""
        if torch.is_grad_enabled() and any(each.requires_grad for each in iterate_tensors((args, *kwargs.values()))):
            result = self.run_with_rule(func, args, kwargs)
            if result is not NotImplemented:
                return result
        return self._run_gated(func, args, kwargs) if self._gates else func(*args, **kwargs)

    def run_with_rule(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a function of activations with another gradient; NotImplemented where it keeps its own."""
        activation = parse_elementwise(func, args, kwargs) if func in SPELLINGS else None
        if activation is not None and activation.name not in HOMOGENEOUS:
            return self._run_activation(activation)
        if self.attention is None:
            return NotImplemented
        if func in EXPANDED:
            if func is functional.multi_head_attention_forward and self.attention is AttentionRule.CONSTANT:
                args = (
                    *self._add_gates(_detach(args[:2])),
                    *args[2:],
                )  # queries and keys: no way back through their weights
            with self:
                return expand_call(func)(*args, **kwargs)
        normalisation = parse_normalisation(func, args, kwargs)
        if normalisation is not None and depends(normalisation.argument):
            if normalisation.is_fixed:
                return _normalise(normalisation)
            with self:
                return normalisation.run_in_steps(_normalise)
        if func in SOFTMAXES:
            return self._run_softmax(func, args, kwargs)
        if func is FUSED_ATTENTION:
            return self._run_attention(*args, **kwargs)
        if getattr(func, "__name__", "") in SCALES:
            return self._measure_scale(func(*args, **kwargs))
        return self._run_product(func, args, kwargs)

    def visit(self, node: Node) -> None:
        """Refuse what is not sure to hand its output on."""
        name = name_operation(node)
        linear = is_linear(node)
        nonlinear = name in ("Mul", "Div", "NativeBatchNorm") and not linear
        known = name in STRUCTURAL or name in AS_GRADIENT or (linear and self.attention is not None)
        if nonlinear or not known:
            self.refuse("`mul` of two activations" if name == "Mul" else f"`{describe_operation(node)}`")

    def is_constant(self, result: Tensor) -> bool:
        """Gates carry no relevance."""
        return id(result) in self._gates

    def check_outputs(self, returned: Any) -> None:
        """Check what the network returns: refuse outputs that depend on the image through gates alone."""
        values = returned.values() if isinstance(returned, Mapping) else [returned]
        outputs = list(iterate_tensors([*values]))
        for each in outputs:
            self.visit_rest(each)
        if any(id(each) in self._gates for each in outputs) and not any(each.requires_grad for each in outputs):
            self.refuse("outputs of a gate, a sigmoid or softmax at the end,")

    def _run_activation(self, call: Elementwise) -> Tensor:
        at_zero = call.function(call.argument.detach().new_zeros(1)).item()
        if call.name in GATES or (self.attention is not None and at_zero == torch.inf):  # 1 / x and the like: a scale
            result = call.function(call.argument.detach())
            gate = call.argument.detach().copy_(result) if call.in_place else result
            self._gates[id(gate)] = gate
            return gate
        if at_zero != 0:
            self.refuse(f"`{call.name}`, which is not 0 at 0,")
        bounds = call.find_clamp_bounds()
        high = bounds[1] if bounds is not None and bounds[0] == 0 < bounds[1] else None
        return apply_rule(ActivationOp(call.function, call.in_place, high), (call.argument,))

    def _run_softmax(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Weights of attention: constant, or with their own gradient."""
        if self.attention is AttentionRule.CONSTANT:
            return self._add_gates(func(*_detach(args), **kwargs))
        return self._accept(func(*args, **kwargs))

    def _measure_scale(self, result: Any) -> Any:
        """A scale, and the mean where a function computes both: that one keeps its gradient, which is linear."""
        if isinstance(result, Tensor):
            return self._add_gates(result.detach())
        scale, mean = result
        return self._add_gates(scale.detach()), self._accept(mean)

    def _run_attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Fused attention, whose gradient is right once its operands take their share.

        The values take half of the relevance. Of the other half, which goes through the weights, queries and keys take half
        each, or all of it where the other one is constant.
        """
        if self.attention is AttentionRule.CONSTANT:
            query, key, attn_mask = _detach((query, key, attn_mask))
        share = 0.5 if depends(value) else 1.0
        each = share / 2 if depends(query) and depends(key) else share
        value = self._scale(value, 0.5 if any(map(depends, (query, key, attn_mask))) else 1.0)
        query, key = self._scale(query, each), self._scale(key, each)
        if attn_mask is not None:
            attn_mask = self._scale(attn_mask, share)
        return self._accept(FUSED_ATTENTION(query, key, value, attn_mask, *args, **kwargs))

    def _run_product(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A product whose factors take the same share each, a quotient whose denominator is constant."""
        name = getattr(func, "__name__", "")
        if name in DIVISIONS and len(args) > 1 and depends(args[1]):
            if not depends(args[0]):
                return NotImplemented
            return func(args[0], args[1].detach(), *args[2:], **kwargs)
        factors = list_factors(func, args)
        if len(factors) < 2 or self._find_gates(args, kwargs):
            return NotImplemented
        shared = list(args)
        for index in factors:
            shared[index] = self._scale(args[index], 1 / len(factors))
        if name in IN_PLACE_PRODUCTS:
            return args[0].copy_(self._accept(torch.mul(*shared)))
        return self._accept(func(*shared, **kwargs))

    def _scale(self, values: Tensor, factor: float) -> Tensor:
        return apply_rule(ScaleOp(factor), (values,)) if depends(values) and factor != 1 else values

    def _accept(self, result: Tensor) -> Tensor:
        """Take the new nodes behind a result as visited: together they have a rule."""
        waiting = [result.grad_fn] if result.grad_fn is not None else []
        while waiting:
            node = waiting.pop()
            if self.mark(node):
                waiting += list_sources(node)
        return result

    def _add_gates(self, result: Any) -> Any:
        for each in iterate_tensors(result):
            if not each.requires_grad:
                self._gates[id(each)] = each
        return result

    def _find_gates(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        return [each for each in iterate_tensors((args, *kwargs.values())) if id(each) in self._gates]

    def _run_gated(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A gate may be rearranged, scaled, and multiplied with an activation; nothing else.

        Where operations of transformers have rules, whatever is computed from gates alone is one too.
        """
        if not self._find_gates(args, kwargs):
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        activations = [each for each in iterate_tensors((args, *kwargs.values())) if each.requires_grad]
        result = func(*args, **kwargs)
        allowed = name in ARRANGING or name in SCALING
        if self.attention is not None:
            allowed = allowed or not activations or self._weighs(func, args)
        if not allowed:
            self.refuse("`sigmoid` as an activation")
        for each in iterate_tensors(result):
            self._accept(each)
        return self._add_gates(result)

    def _weighs(self, func: Any, args: tuple[Any, ...]) -> bool:
        """Whether a call multiplies one activation with gates, and adds none."""
        factors = list_factors(func, args)
        return len(factors) == 1 and (func is torch.einsum or 0 in find_factors(func) or id(args[0]) not in self._gates)


def _normalise(call: Normalisation) -> Tensor:
    return apply_rule(NormalisationOp(call), (call.argument,))


def _detach(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.detach() if isinstance(each, Tensor) else each for each in args)
