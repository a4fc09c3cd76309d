"""One pass through a network, in which every tensor knows what it was computed from and where it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from seewhy.core.types import Images
from seewhy.models.field_rules import propagate
from seewhy.models.fusion.internals import TorchDispatchMode, find_base, is_mutating, tree_flatten
from seewhy.models.receptive_fields import ReceptiveFields
from seewhy.models.unwrapping import find_hidden_names

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

IMAGES = 2
"""Images of a traced pass: two, to tell which axis is the batch."""


@dataclass(frozen=True)
class Node:
    """A tensor at a moment of a pass.

    Args:
        number: Its number in the order of execution.
        tensor: The tensor, whose memory is not held.
        fields: Where its elements look.
    """

    number: int
    tensor: ReferenceType[Tensor]
    fields: ReceptiveFields


class Trace(TorchDispatchMode):
    """Inside the block, follows everything that is computed from a batch of images.

    An operation in place makes a new node of its tensor.

    Args:
        images: Float [2, channels, height, width], what the network receives.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: dict[int, Node] = {}
        self.sources: list[list[int]] = []
        self.sizes: list[int] = []
        self._add(images, [], ReceptiveFields.of_images(images))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Called by torch for each of its operations."""
        options = dict(kwargs or {})
        sources = sorted({node.number for node in self._find_nodes((args, options))})
        result = func(*args, **options)
        outputs = _list_tensors(result)
        if not sources or not outputs:
            return result
        fields = propagate(func, args, options, result, self.find_fields)
        for output, seen in zip(outputs, fields, strict=True):
            self._add(output, sources, seen)
        base = find_base(args[0]) if is_mutating(func) and args and isinstance(args[0], Tensor) else None
        if base is not None:
            self._write_base(base, args[0], sources)
        return result

    def find_node(self, value: Any) -> Node | None:
        """Find what a tensor is at this moment.

        Args:
            value: A tensor, or anything else.

        Returns:
            Its node; None where it holds nothing of the images.
        """
        node = self.nodes.get(id(value)) if isinstance(value, Tensor) else None
        return node if node is not None and node.tensor() is value else None

    def find_fields(self, value: Any) -> ReceptiveFields | None:
        """Find where a tensor looks.

        Args:
            value: A tensor, or anything else.

        Returns:
            Its receptive fields; None where it holds nothing of the images.
        """
        node = self.find_node(value)
        return None if node is None else node.fields

    def find_cuts(self, output: Tensor) -> set[int]:
        """Find the nodes that every path from the images to `output` crosses.

        A node is one if no edge between nodes of these paths leads past it in the order of execution.

        Args:
            output: What the network returned.

        Returns:
            Numbers of nodes.
        """
        end = self.find_node(output)
        if end is None:
            return set()
        used = {end.number}
        for number in range(end.number, -1, -1):
            if number in used:
                used.update(self.sources[number])
        reach: dict[int, int] = {}
        for number in sorted(used):
            reach.update(dict.fromkeys(self.sources[number], number))
        cuts, farthest = set(), 0
        for number in sorted(used):
            if number >= farthest:
                cuts.add(number)
            farthest = max(farthest, reach.get(number, number))
        return cuts

    def _find_nodes(self, values: Any) -> Iterator[Node]:
        for tensor in _list_tensors(values):
            node = self.find_node(tensor)
            if node is not None:
                yield node

    def _add(self, tensor: Tensor, sources: list[int], fields: ReceptiveFields) -> None:
        self.nodes[id(tensor)] = Node(len(self.sources), ref(tensor), fields)
        self.sources.append(sources)
        self.sizes.append(tensor.untyped_storage().nbytes())

    def _write_base(self, base: Tensor, view: Tensor, sources: list[int]) -> None:
        """A tensor of which a view was written into looks, at these elements, where the view does."""
        earlier, written = self.find_node(base), self.find_node(view)
        assert written is not None, "the view was added"
        before = ReceptiveFields.nowhere(base) if earlier is None else earlier.fields
        planes = []
        for old, new in zip(before.planes, written.fields.planes, strict=True):
            plane = torch.empty_strided(base.shape, base.stride(), dtype=old.dtype, device=old.device).copy_(old)
            start = view.storage_offset() - base.storage_offset()
            plane.as_strided(view.shape, view.stride(), start).copy_(new)
            planes.append(plane)
        numbers = sources if earlier is None else sorted({*sources, earlier.number})
        self._add(base, numbers, ReceptiveFields(*planes))


@dataclass(frozen=True)
class Output:
    """What a module gave in a traced pass.

    Args:
        name: Of the module.
        module: The module.
        shape: Of its output.
        node: Number of its node.
        fields: Where it looks.
    """

    name: str
    module: nn.Module
    shape: torch.Size
    node: int
    fields: ReceptiveFields


@dataclass(frozen=True)
class TracedPass:
    """A traced pass.

    Args:
        outputs: Outputs of modules, in the order in which they finish.
        cuts: The nodes that every path from the images to the network's output crosses.
        sizes: Of each node the bytes of its memory.
    """

    outputs: list[Output]
    cuts: set[int]
    sizes: list[int]


def trace_pass(classifier: Classifier, size: tuple[int, int], only: str | None = None) -> TracedPass:
    """Run two images of noise through the network and follow them.

    Args:
        classifier: The classifier; the pass is not counted.
        size: (height, width) of the images in pixels.
        only: The module whose outputs are kept; None: all.

    Returns:
        What was recorded.
    """
    outputs: list[Output] = []
    images = draw_noise(classifier, size, IMAGES)
    trace = Trace(images)

    def record(name: str, module: nn.Module, output: object) -> None:
        node = trace.find_node(output)
        if node is not None and isinstance(output, Tensor):
            outputs.append(Output(name, module, output.shape, node.number, node.fields))

    hidden = {"", *find_hidden_names(classifier.network)}
    modules = [
        (name, module)
        for name, module in classifier.network.named_modules()
        if name not in hidden and only in (None, name)
    ]
    with _watch(modules, record), trace:
        logits = run_uncounted(classifier, images)
    return TracedPass(outputs, trace.find_cuts(logits), trace.sizes)


def draw_noise(classifier: Classifier, size: tuple[int, int], count: int, seed: int = 0) -> Images:
    """Draw images of noise.

    Args:
        classifier: The classifier that they are for.
        size: (height, width) in pixels.
        count: How many.
        seed: Decides which.

    Returns:
        Float [count, channels, height, width] in [0, 1].
    """
    shape = count, classifier.facts.channels, *size
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(classifier.mean)


def run_uncounted(classifier: Classifier, images: Images) -> Tensor:
    """Run a pass layer by layer, in evaluation mode and without gradients, that is not counted.

    Args:
        classifier: The classifier.
        images: Float [batch, channels, height, width].

    Returns:
        Logits [batch, classes].
    """
    counted = replace(classifier.passes)
    with torch.inference_mode(False), torch.no_grad(), classifier.folding.off(), classifier.frozen():
        logits: Tensor = classifier(images)
    classifier.passes = counted
    return logits


def record_output(
    classifier: Classifier, layer: str, images: Images, change: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Run a pass that is not counted and record what a layer gives in its last run.

    Args:
        classifier: The classifier.
        layer: Name of a module, which gives a tensor.
        images: Float [batch, channels, height, width].
        change: Makes of the layer's output what the network goes on with; None: the output itself.

    Returns:
        (a copy of the output, the logits).
    """
    outputs: list[Tensor] = []

    def record(module: nn.Module, arguments: object, output: Tensor) -> Tensor:
        outputs.append(output.clone())
        return output if change is None else change(output)

    handle = classifier.find_layer(layer).register_forward_hook(record)
    try:
        logits = run_uncounted(classifier, images)
    finally:
        handle.remove()
    return outputs[-1], logits


def _list_tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(values)[0] if isinstance(leaf, Tensor)]


@contextmanager
def _watch(
    modules: Iterable[tuple[str, nn.Module]], record: Callable[[str, nn.Module, object], None]
) -> Iterator[None]:
    """Call record(name, module, output) for each of the modules that runs inside the block."""
    handles = []
    try:
        for name, module in modules:
            handles.append(
                module.register_forward_hook(lambda module, _, output, name=name: record(name, module, output))
            )
        yield
    finally:
        for handle in handles:
            handle.remove()
