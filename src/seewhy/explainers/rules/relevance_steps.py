"""Steps that pass relevance instead of a gradient: the signal c of a tensor x means relevance x * c."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seewhy.explainers.rules.affine import Affine
from seewhy.explainers.rules.blocks import in_blocks
from seewhy.explainers.rules.keeper import Keeper, Kept
from seewhy.explainers.rules.local_rule import Step
from seewhy.explainers.rules.relevance_rules import Rule, bounded_rule


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
