"""One step of a network whose backward rule is replaced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor


class Step(ABC):
    """What a step computes, and what it passes back instead of its gradient."""

    @abstractmethod
    def forward(self, *operands: Tensor) -> Tensor:
        """The unchanged result of the step; an in-place step writes it into its first operand and returns that."""

    @abstractmethod
    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """The signal of the result -> one signal for each operand."""


class LocalRule(torch.autograd.Function):
    """Hands a step to autograd."""

    @staticmethod
    def forward(ctx: Any, step: Step, *operands: Tensor) -> Tensor:
        """The step's result."""
        ctx.step = step
        result = step.forward(*operands)
        if result is operands[0]:
            ctx.mark_dirty(result)
        return result

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor | None, ...]:
        """The step's own rule."""
        return None, *ctx.step.backward(signals[0])


def run(step: Step, operands: tuple[Tensor, ...]) -> Tensor:
    """The result of the step, with its own backward rule."""
    result: Tensor = LocalRule.apply(step, *operands)
    return result
