"""A recording of the operations of one forward pass, which can be replayed for any number of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from seewhy.models.fusion.internals import (
    TorchDispatchMode,
    TreeSpec,
    find_storage,
    read_schema,
    reads_values,
    tree_flatten,
    tree_unflatten,
)


class Unrecordable(Exception):
    """Why a network cannot be replayed from a recording of its operations."""


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
        leaves = [leaf.count * images if isinstance(leaf, PerImage) else leaf for leaf in self.leaves]
        leaves = [lookup(leaf) if isinstance(leaf, Value) else leaf for leaf in leaves]
        assert self.structure is not None, "the images are not computed"
        positional, keywords = tree_unflatten(leaves, self.structure)
        return (*positional, keywords)


@dataclass(frozen=True)
class Recording:
    """The steps in the order in which they ran, and which value the network returned."""

    steps: tuple[Step, ...]
    result: Value


def record(network: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Recording, Tensor]:
    """Record the operations of a network for any number of images.

    The network runs on two images and on three more: numbers that grow in proportion are taken for multiples of the
    batch.

    Args:
        network: The network; it must not depend on the values of the images.
        images: Five images [5, channels, height, width].

    Returns:
        (the recording, the network's outputs for the last three images).

    Raises:
        Unrecordable: Where the recording would not hold for other images.
    """
    assert len(images) == 5, "two images and three more"
    two, _ = _record_pass(network, images[:2])
    three, outputs = _record_pass(network, images[2:])
    if len(two.steps) != len(three.steps) or two.result != three.result:
        raise Unrecordable("its operations depend on the number of images")
    steps = tuple(_merge(first, second) for first, second in zip(two.steps, three.steps, strict=True))
    return Recording(steps, two.result), outputs


def _record_pass(network: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Recording, Tensor]:
    recorder = _Recorder(images)
    with recorder:
        output = network(images)
    if output not in recorder.values:
        raise Unrecordable("its output is not made of operations on the images")
    return Recording(tuple(recorder.steps), recorder.values[output]), output


class _Recorder(TorchDispatchMode):
    """Keeps every operation that the images take part in, and no tensor but the constants."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps = [Step(None, (), None, (tuple(images.shape),))]
        self.values: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.values[images] = Value(0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        flat, structure = tree_flatten((args, kwargs or {}))
        leaves = tuple(self.values.get(leaf, leaf) if isinstance(leaf, Tensor) else leaf for leaf in flat)
        if not any(isinstance(leaf, Value) for leaf in leaves):
            return func(*args, **(kwargs or {}))
        self._check(func, args)
        result = func(*args, **(kwargs or {}))
        outputs = tree_flatten(result)[0]
        shapes = tuple(tuple(output.shape) if isinstance(output, Tensor) else () for output in outputs)
        for number, output in enumerate(outputs):
            if isinstance(output, Tensor):
                self.values[output] = Value(len(self.steps), number)
        self.steps.append(Step(func, leaves, structure, shapes))
        return result

    def _check(self, func: Any, args: Sequence[Any]) -> None:
        if reads_values(func):
            raise Unrecordable("its operations depend on the values of the images")
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Unrecordable(f"{func} draws random numbers")
        for position, argument in enumerate(read_schema(func).arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._check_write(func, args[position] if position < len(args) else None)

    def _check_write(self, func: Any, written: Any) -> None:
        """A step that writes over its argument can be replayed where nothing else sees the same memory."""
        if not isinstance(written, Tensor) or written not in self.values:
            raise Unrecordable(f"{func} writes to something that does not come from the images")
        memory = find_storage(written)
        if any(other is not written and find_storage(other) == memory for other in list(self.values)):
            raise Unrecordable(f"{func} writes to a part of another tensor")


def _merge(first: Step, second: Step) -> Step:
    if first.operation != second.operation or first.structure != second.structure:
        raise Unrecordable("its operations depend on the number of images")
    leaves = (_merge_leaf(two, three) for two, three in zip(first.leaves, second.leaves, strict=True))
    return Step(first.operation, tuple(leaves), first.structure, first.shapes)


def _merge_leaf(two: Any, three: Any) -> Any:
    """An argument for any number of images, from those for two and for three."""
    if isinstance(two, Tensor) and isinstance(three, Tensor):
        if two is three or (two.shape == three.shape and torch.equal(two, three)):
            return two
    elif type(two) is type(three) and two == three:
        return two
    elif type(two) is int and type(three) is int and two % 2 == 0 and two // 2 * 3 == three:
        return PerImage(two // 2)
    raise Unrecordable("an argument of one of its operations depends on the number of images")
