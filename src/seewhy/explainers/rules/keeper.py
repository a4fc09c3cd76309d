"""Remembering activations of a forward pass although later functions may write into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from seewhy.explainers.rules.elementwise import SPELLINGS, elementwise

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
