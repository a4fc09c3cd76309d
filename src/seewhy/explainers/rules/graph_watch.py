"""Looking over a forward pass, function by function, without touching the network."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from seewhy.errors import Incompatible
from seewhy.explainers.rules.graph import sources, spoken

INDEPENDENT = frozenset(
    "__get__ __set__ new_zeros new_ones new_full new_empty new_tensor zeros_like ones_like full_like empty_like "
    "rand_like randn_like".split()
)
"""Functions whose result does not depend on the values of their arguments."""
READING = frozenset("item tolist numpy __bool__ __float__ __int__ __index__ __contains__ equal allclose".split())
"""Functions that turn a tensor into a plain number or truth value."""


class GraphWatch(TorchFunctionMode):
    """Inside the block every torch function, called by a module or by itself, goes through `call`.

    Each new node of the autograd graph is shown to `visit` once, right after the function that made it, so that a
    refusal can name the module. A function whose result hides its dependence on the image (a comparison, detach, a
    mask) is refused: it would be treated as a constant.
    """

    def __init__(self, network: nn.Module, method: str, alternatives: str) -> None:
        super().__init__()
        self.network = network
        self.method = method
        self.alternatives = alternatives
        self.seen: set[Node] = set()
        self._names = {id(module): name for name, module in network.named_modules()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        result = self.call(func, args, kwargs)
        name = getattr(func, "__name__", "")
        if name not in INDEPENDENT:
            self._refuse_hidden(name, result, args, kwargs)
            for tensor in tensors_in(result):
                self._walk(tensor.grad_fn)
        return result

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of the function: its own, unless a subclass has a rule for it."""
        return func(*args, **kwargs)

    def visit(self, node: Node) -> None:
        """Look at a new node of the graph; `refuse` it where the method would be silently wrong."""

    def is_constant(self, result: Tensor) -> bool:
        """Whether a result without a gradient was meant to have none."""
        return False

    def refuse(self, what: str) -> None:
        """Incompatible with the function, the module it was called in, and what to use instead."""
        raise Incompatible(f"{self.method} has no rule for {what} in {self.module()}; use {self.alternatives} instead")

    def module(self) -> str:
        """The innermost module of the network that is running right now, in words."""
        module = calling_module()
        name = self._names.get(id(module))
        return f"module {name!r} ({type(module).__name__})" if name else f"the network ({type(self.network).__name__})"

    def _refuse_hidden(self, name: str, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        hides = isinstance(result, Tensor) and not result.requires_grad and not self.is_constant(result)
        if (hides or name in READING) and any(tensor.requires_grad for tensor in tensors_in((args, *kwargs.values()))):
            what = (
                "which hides how its result depends on the image (detach, no_grad, a comparison, an own autograd rule),"
            )
            self.refuse(f"`{name.strip('_')}`, {what}")

    def _walk(self, root: Node | None) -> None:
        waiting = [root] if root is not None else []
        while waiting:
            node = waiting.pop()
            if node not in self.seen:
                self.seen.add(node)
                self.visit(node)
                waiting += sources(node)

    def refuse_node(self, node: Node) -> None:
        """`refuse` in the words of a node's name."""
        self.refuse(f"`{spoken(node)}`")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in a tensor, a list or a tuple, at any depth."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)


def calling_module() -> nn.Module | None:
    """The innermost torch module among the functions that are being executed."""
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            return owner
        frame = frame.f_back  # type: ignore[assignment]
    return None
