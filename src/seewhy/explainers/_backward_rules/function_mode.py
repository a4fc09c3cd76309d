"""Looking over a forward pass, function by function, without touching the network.

Remembering activations of a forward pass although later functions may write into them.
One step of a network whose backward rule is replaced.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from seewhy.core.errors import Incompatible
from seewhy.explainers._backward_rules.elementwise import SPELLINGS, elementwise
from seewhy.models.fusion.autograd_graph import sources, spoken

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


WRITING_METHODS = frozenset(
    "__iadd__ __isub__ __imul__ __itruediv__ __idiv__ __ipow__ __ifloordiv__ __imatmul__ __setitem__".split()
)


class Kept:
    """One remembered tensor; `value` is copied only if something is about to write into it."""

    __slots__ = ("value", "version")

    def __init__(self, value: Tensor) -> None:
        self.value: Tensor | None = value
        self.version: int | None = None

    def settle(self) -> None:
        """From here on a function that writes into the tensor unseen (compiled code) makes `read` and `take` raise."""
        assert self.value is not None
        self.version = self.value._version

    def copy(self) -> None:
        """Stand apart from what is going to be written into the tensor."""
        if self.value is not None:
            self.value, self.version = self.value.clone(), None

    def take(self) -> Tensor:
        """The tensor, which is then forgotten."""
        value = self.read()
        self.value = None
        return value

    def read(self) -> Tensor:
        """The tensor."""
        value = self.value
        assert value is not None, "a remembered activation was asked for twice"
        if self.version is not None and value._version != self.version:
            raise RuntimeError("an activation that the way back needs was overwritten by a function that hides it")
        return value


class Keeper:
    """Keeps tensors by reference and copies one the moment before a function writes into its memory."""

    def __init__(self) -> None:
        self._kept: dict[int, list[Kept]] = {}

    def keep(self, values: Tensor) -> Kept:
        """Remember the values as they are now."""
        kept = Kept(values.detach())
        self._kept.setdefault(_memory(values), []).append(kept)
        return kept

    def protect(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """To be called before a function runs."""
        values = written(func, args, kwargs)
        if values is not None:
            self.before_writing(values)

    def before_writing(self, values: Tensor) -> None:
        """Copy what is kept in the memory of `values`."""
        for kept in self._kept.pop(_memory(values), ()):
            kept.copy()


def written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The tensor that a call writes into, if there is one."""
    out = kwargs.get("out")
    if isinstance(out, Tensor):
        return out
    name = getattr(func, "__name__", "")
    in_place = name in WRITING_METHODS or (name.endswith("_") and not name.endswith("__")) or kwargs.get("inplace")
    if not in_place and func in SPELLINGS:
        call = elementwise(func, args, kwargs)
        in_place = call is not None and call.in_place
    first = args[0] if args else kwargs.get("input")
    return first if in_place and isinstance(first, Tensor) else None


def _memory(values: Tensor) -> int:
    return values.untyped_storage().data_ptr()


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
