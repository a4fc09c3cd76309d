"""A recording of one forward pass that can be replayed, and the geometry of its receptive fields."""

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


@dataclass(frozen=True)
class ReceptiveField:
    """Along one side, output i of a layer sees inputs i * stride - padding + dilation * (0 .. kernel - 1)."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def count_inputs(self, outputs: int) -> int:
        """How many inputs, from the first to the last, that many neighbouring outputs see."""
        return (outputs - 1) * self.stride + self.dilation * (self.kernel - 1) + 1

    def find_first_input(self, output: Tensor) -> Tensor:
        """The first input that each output sees; negative in the padding."""
        return output * self.stride - self.padding


@dataclass(frozen=True)
class Span:
    """For each position of a window, the indices start .. stop - 1 of one side of `length` that it can change.

    Never empty: where nothing changes, one index is taken, so that patches always have a size.
    """

    starts: Tensor
    stops: Tensor
    length: int

    def propagate(self, field: ReceptiveField, length: int) -> Span:
        """The outputs of a layer that see any of these inputs; `length` is how many outputs there are."""
        first = self.starts + field.padding - field.dilation * (field.kernel - 1)
        starts = torch.div(first + field.stride - 1, field.stride, rounding_mode="floor")
        stops = torch.div(self.stops - 1 + field.padding, field.stride, rounding_mode="floor") + 1
        return _clamp(starts, stops, length)

    def shift(self, by: int, length: int) -> Span:
        """The same indices after `by` others were put before them."""
        return _clamp(self.starts + by, self.stops + by, length)

    def unite(self, other: Span) -> Span:
        """The smallest span that holds both."""
        starts, stops = torch.minimum(self.starts, other.starts), torch.maximum(self.stops, other.stops)
        return Span(starts, stops, self.length)

    @property
    def sizes(self) -> Tensor:
        """How many indices change for each position."""
        return self.stops - self.starts


def _clamp(starts: Tensor, stops: Tensor, length: int) -> Span:
    starts = starts.clamp(0, length - 1)
    return Span(starts, torch.maximum(stops.clamp(max=length), starts + 1), length)


@dataclass(frozen=True)
class Side:
    """Where patches of `size` rows (or columns) start for each position of a window, in a map of `length`."""

    starts: Tensor
    size: int
    length: int


@dataclass(frozen=True)
class Region:
    """The rows and the columns of patches in one map."""

    rows: Side
    columns: Side

    @property
    def is_whole(self) -> bool:
        """Whether the patches are the whole map."""
        return (self.rows.size, self.columns.size) == (self.rows.length, self.columns.length)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the patches."""
        return self.rows.size, self.columns.size

    def coincides(self, other: Region) -> bool:
        """Whether the patches have the same size and position."""
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        return all(ours.size == theirs.size and torch.equal(ours.starts, theirs.starts) for ours, theirs in pairs)

    def extend(self) -> Region:
        """The whole map."""
        sides = [Side(torch.zeros_like(side.starts), side.length, side.length) for side in (self.rows, self.columns)]
        return Region(sides[0], sides[1])
