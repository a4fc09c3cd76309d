"""A forward pass of images whose nonlinear steps know what the baselines were there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from seewhy.explainers.rules.baseline_pass import POOLS, PRODUCTS, BaselinePass, may_be_nonlinear, operands_of
from seewhy.explainers.rules.elementwise import elementwise
from seewhy.explainers.rules.graph import is_linear, operation
from seewhy.explainers.rules.graph_watch import GraphWatch
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


class Unshared(Exception):
    """The network arranges a batch so that one baseline cannot be held against all images."""


class PairWatch(GraphWatch):
    """The block runs images, after `baselines` has seen a pass of theirs.

    A backward pass from the images' logits then gives multipliers instead of gradients. Nonlinear functions without a
    rule are refused.
    """

    def __init__(self, network: nn.Module, method: str, alternatives: str, baselines: BaselinePass) -> None:
        super().__init__(network, method, alternatives)
        self._baselines = baselines
        self._next = 0

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of the function, with an exact rule where it is nonlinear."""
        if not may_be_nonlinear(func):
            return func(*args, **kwargs)
        expected, baselines = self._baselines.read(self._next)
        self._next += 1
        if expected is not func:
            self._refuse_other_calls()
        operands = operands_of(func, args, kwargs)
        if not operands or not torch.is_grad_enabled() or not all(operand.requires_grad for operand in operands):
            return func(*args, **kwargs)
        self._check(operands, baselines)
        return run(self._step(func, args, kwargs, baselines), operands)

    def finish(self) -> None:
        """To be called after the pass: the baselines must not have made further calls."""
        if self._next != len(self._baselines):
            self._refuse_other_calls()

    def visit(self, node: Node) -> None:
        """Everything but linear functions must have gone through a rule."""
        if not is_linear(node) and operation(node) != "LocalRule":
            self.refuse_node(node)

    def _refuse_other_calls(self) -> None:
        self.refuse("functions that are called for some images and not for others")

    def _check(self, operands: tuple[Tensor, ...], baselines: tuple[Tensor, ...]) -> None:
        """Each baseline must be of its image's shape, or one for all images."""
        for image, baseline in zip(operands, baselines, strict=True):
            beside = 1 if self._baselines.shared else len(image)
            if baseline.shape != (beside, *image.shape[1:]):
                if self._baselines.shared:
                    raise Unshared
                self._refuse_other_calls()

    def _step(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], baselines: tuple[Tensor, ...]
    ) -> PairStep:
        """The rule for a call with operands."""
        call: Callable[[], Tensor] = lambda: func(*args, **kwargs)  # noqa: E731
        if func in PRODUCTS:
            return Product(baselines, call)
        if func in POOLS:
            return MaxPool(baselines, pool_with_places(POOLS[func], args, kwargs))
        found = elementwise(func, args, kwargs)
        assert found is not None
        bounds = bounds_of(found, found.argument)
        return Secant(baselines, found) if bounds is None else ClampSecant(baselines, found, bounds)
