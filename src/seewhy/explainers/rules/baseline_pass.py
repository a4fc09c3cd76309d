"""A forward pass of baselines that remembers what went into every step that may need a rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from seewhy.explainers.rules.elementwise import SPELLINGS, elementwise
from seewhy.explainers.rules.keeper import Keeper, Kept

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


class BaselinePass(TorchFunctionMode):
    """Inside the block every call that may be nonlinear is written down with its operands, in order.

    `shared`: the pass is of one baseline [1, ...] that stands beside every image, and is read once for each batch.
    Otherwise the operands are forgotten when they are read.
    """

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.shared = shared
        self._keeper = Keeper()
        self._calls: list[tuple[Any, list[Kept]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if may_be_nonlinear(func):
            self._calls.append((func, [self._keeper.keep(each) for each in operands_of(func, args, kwargs)]))
        self._keeper.protect(func, args, kwargs)
        return func(*args, **kwargs)

    def __len__(self) -> int:
        return len(self._calls)

    def read(self, index: int) -> tuple[Any, tuple[Tensor, ...]]:
        """(function, operands) of a call; (None, none) after the last one."""
        if index >= len(self._calls):
            return None, ()
        func, kept = self._calls[index]
        return func, tuple(each.read() if self.shared else each.take() for each in kept)


def may_be_nonlinear(func: Any) -> bool:
    """Whether a rule may be needed for the calls of a function."""
    return func in SPELLINGS or func in PRODUCTS or func in POOLS


def operands_of(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The tensors that a step works on; none where there is no rule for the call."""
    if func in PRODUCTS:
        operands = (*args, *kwargs.values())
        return operands if len(operands) == 2 and all(isinstance(each, Tensor) for each in operands) else ()
    if func in POOLS:
        return (args[0],)
    found = elementwise(func, args, kwargs)
    return () if found is None else (found.argument,)
