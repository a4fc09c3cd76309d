"""A forward pass of images and a second one of their baselines, whose nonlinear steps are told of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional

from seewhy.explainers.rules.elementwise import SPELLINGS, elementwise
from seewhy.explainers.rules.graph import is_linear, operation
from seewhy.explainers.rules.graph_watch import GraphWatch
from seewhy.explainers.rules.keeper import Keeper
from seewhy.explainers.rules.local_rule import run
from seewhy.explainers.rules.pair_steps import (
    ClampSecant,
    MaxPool,
    PairStep,
    Product,
    Secant,
    bounds_of,
    pool_with_places,
)

PRODUCTS = frozenset(
    getattr(owner, name)
    for owner, names in (
        (torch, ("mul", "multiply")),
        (Tensor, ("mul", "multiply", "mul_", "multiply_", "__mul__", "__rmul__", "__imul__")),
    )
    for name in names
)
POOLS = {
    functional.max_pool2d: functional.max_pool2d,
    torch.max_pool2d: functional.max_pool2d,
    functional.adaptive_max_pool2d: functional.adaptive_max_pool2d,
}


class PairWatch(GraphWatch):
    """The first block runs the images with gradients, the second block the baselines without.

    After both, a backward pass from the images' logits gives multipliers instead of gradients. Nonlinear functions
    without a rule are refused.
    """

    def __init__(self, network: nn.Module, method: str, alternatives: str) -> None:
        super().__init__(network, method, alternatives)
        self._keeper = Keeper()
        self._steps: list[tuple[Any, PairStep | None]] = []
        self._next: int | None = None

    def start_baselines(self) -> None:
        """From here on the same calls are expected again, with the baselines."""
        self._next = 0

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of the function, with an exact rule where it is nonlinear."""
        if func in SPELLINGS or func in PRODUCTS or func in POOLS:
            return self._image(func, args, kwargs) if self._next is None else self._baseline(func, args, kwargs)
        self._keeper.protect(func, args, kwargs)
        return func(*args, **kwargs)

    def visit(self, node: Node) -> None:
        """Everything but linear functions must have gone through a rule."""
        if not is_linear(node) and operation(node) != "LocalRule":
            self.refuse_node(node)

    def _image(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        def call() -> Any:
            self._keeper.protect(func, args, kwargs)
            return func(*args, **kwargs)

        step, operands = self._step(func, args, kwargs, call)
        depends = torch.is_grad_enabled() and all(operand.requires_grad for operand in operands)
        self._steps.append((func, step if depends else None))
        return run(step, operands) if step is not None and depends else call()

    def _baseline(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        assert self._next is not None
        expected, step = self._steps[self._next] if self._next < len(self._steps) else (None, None)
        self._next += 1
        if expected is not func:
            self.refuse("functions that are called for some images and not for others")
        result = None if step is None else step.compare(*self._step(func, args, kwargs)[1])
        return func(*args, **kwargs) if result is None else result

    def _step(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], call: Callable[[], Tensor] | None = None
    ) -> tuple[PairStep | None, tuple[Tensor, ...]]:
        """(the rule for a call or None, its operands)."""
        if func in PRODUCTS:
            operands = (*args, *kwargs.values())
            if len(operands) != 2 or not all(isinstance(operand, Tensor) for operand in operands):
                return None, ()
            return Product(self._keeper, call), operands
        if func in POOLS:
            return MaxPool(self._keeper, call, pool_with_places(POOLS[func], args, kwargs)), (args[0],)
        found = elementwise(func, args, kwargs)
        if found is None:
            return None, ()
        bounds = bounds_of(found, found.argument)
        if bounds is not None:
            return ClampSecant(self._keeper, call, found, bounds), (found.argument,)
        return Secant(self._keeper, call, found), (found.argument,)
