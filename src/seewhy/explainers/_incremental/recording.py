"""The operations that one forward pass of a network is made of, for any number of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary


class Unrecordable(Exception):
    """Why a network cannot be replayed from a record of its operations."""


@dataclass(frozen=True)
class Value:
    """Output `output` of step `step`; step 0 is the images."""

    step: int
    output: int = 0


@dataclass(frozen=True)
class PerImage:
    """A number that is `count` for each image of the batch."""

    count: int


@dataclass(frozen=True)
class Step:
    """One operation: its arguments (values, numbers, constant tensors) and the shapes of its outputs for two images."""

    operation: Any
    leaves: tuple[Any, ...]
    structure: TreeSpec | None
    shapes: tuple[tuple[int, ...], ...]

    @property
    def inputs(self) -> list[Value]:
        """The values among the arguments, in order."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Value)]

    def arguments(self, images: int, lookup: Callable[[Value], Any] = lambda value: value) -> tuple[Any, ...]:
        """The positional arguments for that many images; keywords, if any, are the last as a dictionary."""
        found = [leaf.count * images if isinstance(leaf, PerImage) else leaf for leaf in self.leaves]
        found = [lookup(leaf) if isinstance(leaf, Value) else leaf for leaf in found]
        assert self.structure is not None, "the images are not computed"
        positional, keywords = tree_unflatten(found, self.structure)
        return (*positional, keywords)


@dataclass(frozen=True)
class Record:
    """The steps in the order in which they ran, and which value the network returned."""

    steps: tuple[Step, ...]
    result: Value


def record(network: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Record, Tensor]:
    """(the operations of `network` for any number of images, its outputs for all but the first two of the five images).

    The network runs on the first two and on the last three images: numbers that grow in proportion are taken for
    multiples of the batch. Unrecordable where the record would not hold for other images.
    """
    assert len(images) == 5, "two images and three more"
    two, _ = _pass(network, images[:2])
    three, outputs = _pass(network, images[2:])
    if len(two.steps) != len(three.steps) or two.result != three.result:
        raise Unrecordable("its operations depend on the number of images")
    steps = tuple(_merge(first, second) for first, second in zip(two.steps, three.steps, strict=True))
    return Record(steps, two.result), outputs


def _pass(network: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Record, Tensor]:
    recorder = _Recorder(images)
    with recorder:
        output = network(images)
    if output not in recorder.known:
        raise Unrecordable("its output is not made of operations on the images")
    return Record(tuple(recorder.steps), recorder.known[output]), output


class _Recorder(TorchDispatchMode):
    """Keeps every operation that the images take part in, and no tensor but the constants."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps = [Step(None, (), None, (tuple(images.shape),))]
        self.known: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.known[images] = Value(0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves, structure = tree_flatten((args, kwargs or {}))
        kept = tuple(self.known.get(leaf, leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        takes_part = any(isinstance(leaf, Value) for leaf in kept)
        if takes_part:
            self._check(func, args)
        result = func(*args, **(kwargs or {}))
        if takes_part:
            outputs = tree_flatten(result)[0]
            shapes = tuple(tuple(output.shape) if isinstance(output, Tensor) else () for output in outputs)
            for number, output in enumerate(outputs):
                if isinstance(output, Tensor):
                    self.known[output] = Value(len(self.steps), number)
            self.steps.append(Step(func, kept, structure, shapes))
        return result

    def _check(self, func: Any, args: Sequence[Any]) -> None:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise Unrecordable("its operations depend on the values of the images")
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Unrecordable(f"{func} draws random numbers")
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._check_write(func, args[position] if position < len(args) else None)

    def _check_write(self, func: Any, written: Any) -> None:
        """A step that writes over its argument can be replayed where nothing else sees the same memory."""
        if not isinstance(written, Tensor) or written not in self.known:
            raise Unrecordable(f"{func} writes to something that does not come from the images")
        memory = written.untyped_storage()._cdata
        if any(other is not written and other.untyped_storage()._cdata == memory for other in list(self.known)):
            raise Unrecordable(f"{func} writes to a part of another tensor")


def _merge(first: Step, second: Step) -> Step:
    if first.operation != second.operation or first.structure != second.structure:
        raise Unrecordable("its operations depend on the number of images")
    leaves = (_merge_leaf(one, other) for one, other in zip(first.leaves, second.leaves, strict=True))
    return Step(first.operation, tuple(leaves), first.structure, first.shapes)


def _merge_leaf(one: Any, other: Any) -> Any:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one is other or (one.shape == other.shape and torch.equal(one, other)):
            return one
    elif type(one) is type(other) and one == other:
        return one
    elif type(one) is int and type(other) is int and one % 2 == 0 and one // 2 * 3 == other:
        return PerImage(one // 2)
    raise Unrecordable("an argument of one of its operations depends on the number of images")
