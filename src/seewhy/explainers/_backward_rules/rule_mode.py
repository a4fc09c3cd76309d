"""A forward pass in which chosen operations get another backward rule; the network itself is not touched.

`RuleMode` is a torch function mode: inside its block every torch function goes through `call`, which may run it as a
`RuleOp`, an autograd function with the same result and a backward of its own. Every node that enters the autograd graph
is shown to `visit`, so that an operation without a rule is refused by name.

The way back needs activations that later in-place functions may overwrite: `SavedTensors` copies an activation the
moment before a function writes into its memory, and not otherwise.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from seewhy.core.errors import Incompatible
from seewhy.explainers._backward_rules.calls import SPELLINGS, parse_elementwise
from seewhy.models.fusion.chain import describe_operation, list_sources
from seewhy.models.fusion.internals import count_writes

INDEPENDENT = frozenset(
    "__get__ __set__ new_zeros new_ones new_full new_empty new_tensor zeros_like ones_like full_like empty_like "
    "rand_like randn_like".split()
)
"""Functions whose result does not depend on the values of their arguments."""
READING = frozenset("item tolist numpy __bool__ __float__ __int__ __index__ __contains__ equal allclose".split())
"""Functions that turn a tensor into a plain number or truth value."""
WRITING_METHODS = frozenset(
    "__iadd__ __isub__ __imul__ __itruediv__ __idiv__ __ipow__ __ifloordiv__ __imatmul__ __setitem__".split()
)
"""Methods that write into their tensor, beside those whose name ends in one `_`."""


MARK = "seewhy rule mode"
"""Under this key a visited node bears the mark of the mode that visited it."""


class RuleOp(ABC):
    """An operation with a backward rule of its own."""

    @abstractmethod
    def forward(self, *operands: Tensor) -> Tensor:
        """Compute the network's own result; an in-place operation writes it into its first operand and returns that."""

    @abstractmethod
    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """Carry the signal of the result back: one signal for each operand."""


class LocalRule(torch.autograd.Function):
    """Hands a `RuleOp` to autograd; its nodes carry the operation as `step`."""

    @staticmethod
    def forward(ctx: Any, step: RuleOp, *operands: Tensor) -> Tensor:
        """Run the operation."""
        ctx.step, ctx.operands = step, len(operands)
        ctx.set_materialize_grads(False)
        result = step.forward(*operands)
        if result is operands[0]:
            ctx.mark_dirty(result)
        return result

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor | None, ...]:
        """Apply the operation's rule; a result that nothing uses has no signal."""
        if signals[0] is None:
            return (None,) * (1 + ctx.operands)
        return None, *ctx.step.backward(signals[0])


def apply_rule(op: RuleOp, operands: tuple[Tensor, ...]) -> Tensor:
    """Run an operation so that the backward pass uses its rule."""
    result: Tensor = LocalRule.apply(op, *operands)
    return result


class RuleMode(TorchFunctionMode):
    """Inside the block every torch function, called by a module or by itself, goes through `call`.

    Each new node of the autograd graph is shown to `visit` once, right after the function that made it, so that a
    refusal can name the module. A function whose result hides its dependence on the image (a comparison, detach, a
    mask) is refused: it would be treated as a constant.

    Args:
        network: The network that runs inside the block.
        method: Name of the explainer, for refusals.
        alternatives: Explainers that a refusal recommends instead.
    """

    def __init__(self, network: nn.Module, method: str, alternatives: str) -> None:
        super().__init__()
        self.network = network
        self.method = method
        self.alternatives = alternatives
        self._mark = object()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":  # the shape and the like, more often than anything else
            result = func(*args, **kwargs)
            if not isinstance(result, Tensor):
                return result
        result = self.call(func, args, kwargs)
        if name not in INDEPENDENT:
            self._refuse_hidden(name, result, args, kwargs)
            for tensor in iterate_tensors(result):
                self._visit_graph(tensor.grad_fn)
        return result

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the function; a subclass runs some as a `RuleOp`."""
        return func(*args, **kwargs)

    def visit(self, node: Node) -> None:
        """Check a new node of the graph; `refuse` it where the method would be silently wrong."""

    def is_constant(self, result: Tensor) -> bool:
        """Whether a result without a gradient was meant to have none."""
        return False

    def visit_rest(self, outputs: Tensor) -> None:
        """Visit what no torch function has shown: nodes of compiled code between the last function and the outputs."""
        self._visit_graph(outputs.grad_fn)

    def refuse(self, what: str) -> None:
        """Raise Incompatible with the function, the module that called it, and what to use instead."""
        raise Incompatible(
            f"{self.method} has no rule for {what} in {self.describe_module()}; use {self.alternatives} instead"
        )

    def refuse_node(self, node: Node) -> None:
        """`refuse` an operation by the name of its node."""
        self.refuse(f"`{describe_operation(node)}`")

    @cached_property
    def _names(self) -> dict[int, str]:
        """The names of the modules, asked for by messages alone."""
        return {id(module): name for name, module in self.network.named_modules()}

    def describe_module(self) -> str:
        """The innermost module of the network that is running right now, in words."""
        module = _find_calling_module()
        name = self._names.get(id(module))
        return f"module {name!r} ({type(module).__name__})" if name else f"the network ({type(self.network).__name__})"

    def _refuse_hidden(self, name: str, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        hides = isinstance(result, Tensor) and not result.requires_grad and not self.is_constant(result)
        if (hides or name in READING) and any(each.requires_grad for each in iterate_tensors((args, *kwargs.values()))):
            self.refuse(
                f"`{name.strip('_')}`, which hides how its result depends on the image (detach, no_grad, a comparison, "
                "an own autograd rule),"
            )

    def _visit_graph(self, root: Node | None) -> None:
        waiting = [root] if root is not None else []
        while waiting:
            node = waiting.pop()
            if self.mark(node):
                self.visit(node)
                waiting += list_sources(node)

    def mark(self, node: Node) -> bool:
        """Mark a node as visited, without keeping it and what it saved; False where it was already."""
        marks: dict[str, object] = node.metadata  # type: ignore[assignment]  # torch declares a method
        if marks.get(MARK) is self._mark:
            return False
        marks[MARK] = self._mark
        return True


def iterate_tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a tensor, a list or a tuple, at any depth."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from iterate_tensors(item)


def _find_calling_module() -> nn.Module | None:
    """The innermost torch module among the functions that are being executed."""
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            return owner
        frame = frame.f_back  # type: ignore[assignment]
    return None


class SavedTensor:
    """An activation for the way back, by reference; copied only if a function is about to write into it."""

    __slots__ = ("__weakref__", "_value", "_version")

    def __init__(self, value: Tensor) -> None:
        self._value: Tensor | None = value
        self._version: int | None = None

    def lock(self) -> None:
        """From here on a function that writes into the tensor unseen (compiled code) makes `read` and `take` raise."""
        assert self._value is not None
        self._version = count_writes(self._value)

    def copy(self) -> None:
        """Take a copy before a function writes into the tensor."""
        if self._value is not None:
            self._value, self._version = self._value.clone(), None

    def forget(self) -> None:
        """Let go of the tensor: nobody will read it."""
        self._value = None

    def take(self) -> Tensor:
        """Return the tensor and forget it."""
        value = self.read()
        self._value = None
        return value

    def read(self) -> Tensor:
        """Return the tensor."""
        value = self._value
        assert value is not None, "a saved activation was taken twice"
        if self._version is not None and count_writes(value) != self._version:
            raise RuntimeError("an activation that the way back needs was overwritten by a function that hides it")
        return value


class SavedTensors:
    """Activations of a forward pass, kept by reference until a function writes into their memory.

    What no operation holds any more is let go.
    """

    def __init__(self) -> None:
        self._saved: dict[int, list[ReferenceType[SavedTensor]]] = {}

    def save(self, values: Tensor) -> SavedTensor:
        """Save the values as they are now."""
        saved = SavedTensor(values.detach())
        self._saved.setdefault(_find_memory(values), []).append(ref(saved))
        return saved

    def copy_before(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Copy what is saved in the memory that a call, which has yet to run, writes into."""
        values = _find_written(func, args, kwargs)
        for each in () if values is None else self._saved.pop(_find_memory(values), ()):
            saved = each()
            if saved is not None:
                saved.copy()


def _find_written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The tensor that a call writes into, if there is one."""
    out = kwargs.get("out")
    if isinstance(out, Tensor):
        return out
    name = getattr(func, "__name__", "")
    in_place = name in WRITING_METHODS or (name.endswith("_") and not name.endswith("__")) or kwargs.get("inplace")
    if not in_place and func in SPELLINGS:
        call = parse_elementwise(func, args, kwargs)
        in_place = call is not None and call.in_place
    first = args[0] if args else kwargs.get("input")
    return first if in_place and isinstance(first, Tensor) else None


def _find_memory(values: Tensor) -> int:
    return values.untyped_storage().data_ptr()
