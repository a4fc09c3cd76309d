"""Rectifiers as steps of their own: the rule of the way back is chosen when the whole pass is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from seewhy.explainers.rules.blocks import in_blocks
from seewhy.explainers.rules.elementwise import elementwise
from seewhy.explainers.rules.keeper import Keeper, Kept
from seewhy.explainers.rules.local_rule import Step

CutRule = Callable[[Tensor, Tensor, Tensor, float], None]
"""(out, signal, result, high): writes the signal of the argument of y = min(max(x, 0), high) into `out`."""

NAMES = {"relu": "relu", "relu6": "hardtanh", "hardtanh": "hardtanh"}
"""Functions that may be rectifiers, in autograd's words. A clamp is none: its gradient passes at the bounds as well."""


class CutOff(Step):
    """y = min(max(x, 0), high), which remembers its result alone: 0 < y < high says what 0 < x < high does.

    Autograd's own ReLU6 in place copies its argument. `rule` is the gradient until it is replaced.
    """

    def __init__(self, call: Callable[[], Tensor], name: str, high: float, keeper: Keeper) -> None:
        self.call: Callable[[], Tensor] | None = call
        self.name = NAMES[name]
        self.high = high
        self.keeper = keeper
        self.rule: CutRule = gradient
        self.kept: Kept

    def forward(self, *operands: Tensor) -> Tensor:
        """The function as the network wrote it."""
        assert self.call is not None
        result, self.call = self.call(), None
        self.kept = self.keeper.keep(result)
        return result

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """The rule, block by block."""
        result = self.kept.take()
        found = torch.empty_like(result)

        def compute(out: Tensor, signal: Tensor, result: Tensor) -> None:
            self.rule(out, signal, result, self.high)

        in_blocks(compute, found, signal, result)
        return (found,)


def cut_off(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], keeper: Keeper
) -> tuple[CutOff, tuple[Tensor, bool]] | None:
    """(the step, (its argument, in place or not)) of a call of relu, relu6 or hardtanh from 0 on; None for any other."""
    call = elementwise(func, args, kwargs)
    if call is None or call.name not in NAMES or not call.argument.requires_grad:
        return None
    try:
        low, high = call.function(call.argument.new_tensor([-math.inf, math.inf])).tolist()
    except (RuntimeError, ValueError):
        return None
    if low != 0 or high <= 0:
        return None
    # writing into a part of a tensor hides the step from the graph: its result is copied there instead
    apart = call.in_place and call.argument._is_view()

    def result() -> Tensor:
        found: Tensor = call.function(call.argument.detach()) if apart else func(*args, **kwargs)
        return found

    return CutOff(result, call.name, high, keeper), (call.argument, call.in_place)


def gradient(out: Tensor, signal: Tensor, result: Tensor, high: float) -> None:
    """What autograd passes back: the signal where 0 < y < high."""
    if high == math.inf:
        torch.ops.aten.threshold_backward.grad_input(signal, result, 0, grad_input=out)
    else:
        torch.ops.aten.hardtanh_backward.grad_input(signal, result, 0, high, grad_input=out)


def guided(out: Tensor, signal: Tensor, result: Tensor, high: float) -> None:
    """The gradient where it is positive."""
    gradient(out, signal, result, high)
    out.relu_()


def deconvolved(out: Tensor, signal: Tensor, result: Tensor, high: float) -> None:
    """The positive signal, whatever the argument was, up to the bound, which keeps its true derivative."""
    torch.ops.aten.threshold_backward.grad_input(signal, signal, 0, grad_input=out)
    if high < math.inf:
        torch.ops.aten.hardtanh_backward.grad_input(out, result, -math.inf, high, grad_input=out)
