"""A forward pass whose backward pass carries relevance: every layer gets its rule, nothing unknown gets through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional

from seewhy.explainers.rules.affine import Affine, Convolution, affine_layer
from seewhy.explainers.rules.elementwise import SPELLINGS, Elementwise, elementwise
from seewhy.explainers.rules.graph import STRUCTURAL, is_linear, operation, spoken
from seewhy.explainers.rules.graph_watch import GraphWatch, tensors_in
from seewhy.explainers.rules.keeper import Keeper
from seewhy.explainers.rules.local_rule import run
from seewhy.explainers.rules.pair_steps import bounds_of
from seewhy.explainers.rules.relevance_rules import Rule
from seewhy.explainers.rules.relevance_steps import AffineStep, Ratio

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
