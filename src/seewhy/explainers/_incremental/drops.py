"""What the score loses under each window: passes over clean images, then over the patches that windows change.

`compute_incremental_drops` decides whether an incremental pass pays, builds the `IncrementalNetwork`, which is checked
against the network itself, and falls back to full passes, by returning None, wherever that is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import Incompatible
from seewhy.core.tensors import is_out_of_memory, widen
from seewhy.core.types import Images, Targets
from seewhy.explainers._incremental.nodes import Node, Nodes, Padded, SlidingWindow, build_nodes
from seewhy.explainers._incremental.plan import Group, Plan, build_plan, must_crop
from seewhy.explainers._incremental.recording import Region, Span, Unrecordable, Value, record
from seewhy.explainers.rounding import bound_score_differences
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Passes

Key = tuple[int, float]
"""A node and what counts as its value outside of its map."""


@dataclass(frozen=True)
class CleanPass:
    """The table of the clean maps of each key, and the `output` of the network."""

    tables: dict[Key, Tensor]
    output: Tensor


class Windows(NamedTuple):
    """Windows of one group: the clean image and the position along each side of each [n]."""

    images: Tensor
    rows: Tensor
    columns: Tensor


class Crop(NamedTuple):
    """Crops of one size: the rows and columns [n] where they begin, perhaps outside of the map."""

    tops: Tensor
    lefts: Tensor
    size: tuple[int, int]


class ValueStore:
    """The outputs of nodes while a network runs, each forgotten when nothing after it reads it."""

    def __init__(self, nodes: Nodes, result: Value) -> None:
        self._outputs: dict[int, Any] = {}
        last: dict[int, int] = {}
        for number, node in enumerate(nodes):
            if node is not None:
                last |= {number: number} | {value.step: number for value in node.inputs}
        last.pop(result.step)
        self._released: dict[int, list[int]] = {}
        for number, reader in last.items():
            self._released.setdefault(reader, []).append(number)

    def put(self, number: int, output: Any) -> None:
        """Keep the output of node `number`, and forget what nothing after it reads."""
        self._outputs[number] = output
        for released in self._released.get(number, ()):
            del self._outputs[released]

    def get(self, value: Value) -> Any:
        """One output of a node."""
        output = self._outputs[value.step]
        return output[value.output] if isinstance(output, tuple | list) else output


def find_clean_keys(nodes: Nodes, groups: Sequence[Group]) -> set[Key]:
    """The clean maps that some group needs."""
    keys = set()
    for group in groups:
        for number, node in enumerate(nodes):
            for value in node.inputs if node and number else ():
                before = group.regions[value.step]
                if node and before is not None and must_crop(node, before, group.regions[number]):
                    keys.add((value.step, _find_fill(node, group.regions[number])))
    return keys


def run_clean(nodes: Nodes, result: Value, images: Tensor, keys: set[Key]) -> CleanPass:
    """Run the network on whole images.

    Args:
        nodes: The network.
        result: Its output.
        images: float32 [n, channels, height, width].
        keys: The maps to keep.

    Returns:
        The clean maps and the output [n, ...].
    """
    values = ValueStore(nodes, result)
    tables: dict[Key, Tensor] = {}
    for number, node in enumerate(nodes):
        if node is None:
            continue
        if number:
            output = node.run([values.get(value) for value in node.inputs], len(images))
        else:
            output = images.contiguous(memory_format=torch.channels_last)
        tables |= {key: _build_table(output, key[1]) for key in keys if key[0] == number}
        values.put(number, output)
    return CleanPass(tables, values.get(result))


def run_patches(
    nodes: Nodes, result: Value, group: Group, clean: CleanPass, windows: Windows, pixels: Tensor
) -> Tensor:
    """Run the network on the patches of windows.

    Args:
        nodes: The network.
        result: Its output.
        group: The group that the windows belong to.
        clean: The pass over the clean images.
        windows: Which windows of which images [n].
        pixels: What covers them [n, channels, height, width].

    Returns:
        The output [n, ...] for the clean images with the pixels in the windows.
    """
    values = ValueStore(nodes, result)
    values.put(0, pixels.contiguous(memory_format=torch.channels_last))
    for number, node in enumerate(nodes):
        if node is None or not number:
            continue
        after = group.regions[number]
        inputs = []
        for value in node.inputs:
            patch, before = values.get(value), group.regions[value.step]
            if before is not None and must_crop(node, before, after):
                source = nodes[value.step]
                assert source is not None, "a value that is read was computed"
                crop = _find_crop(node, source, after, windows)
                table = clean.tables[value.step, _find_fill(node, after)]
                maps = _cut_crops(table, source.sides, windows.images, crop)
                corners = before.rows.starts[windows.rows], before.columns.starts[windows.columns]
                _paste_patches(maps, crop, patch.permute(0, 2, 3, 1), *corners)
                patch = maps.permute(0, 3, 1, 2)
            inputs.append(patch)
        values.put(number, _run_node(node, after, inputs, len(pixels)))
    return values.get(result)


def _run_node(node: Node, after: Region | None, inputs: list[Any], count: int) -> Any:
    if after is not None and not after.is_whole:
        if isinstance(node.layer, SlidingWindow):
            return node.layer.run_unpadded(inputs[0])
        if isinstance(node.layer, Padded):
            return inputs[0]
    return node.run(inputs, count)


def _find_fill(node: Node, after: Region | None) -> float:
    """What a node takes for the values outside of the map."""
    sliding = isinstance(node.layer, SlidingWindow) and after is not None and not after.is_whole
    return node.layer.fill if sliding else 0.0  # type: ignore[union-attr]


def _find_crop(node: Node, source: Node, after: Region | None, windows: Windows) -> Crop:
    """The part of a map that a node reads to compute its patches."""
    if after is None or after.is_whole:
        zeros = torch.zeros_like(windows.rows)
        return Crop(zeros, zeros, source.sides)
    tops, lefts = after.rows.starts[windows.rows], after.columns.starts[windows.columns]
    if not isinstance(node.layer, SlidingWindow):
        return Crop(tops, lefts, after.size)
    rows, columns = node.layer.fields
    size = rows.count_inputs(after.rows.size), columns.count_inputs(after.columns.size)
    return Crop(rows.find_first_input(tops), columns.find_first_input(lefts), size)


def _build_table(maps: Tensor, fill: float) -> Tensor:
    table = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    return torch.cat([table, table.new_full((1, table.shape[1]), fill)])


def _cut_crops(table: Tensor, sides: tuple[int, int], images: Tensor, crop: Crop) -> Tensor:
    """Crops [n, height, width, channels] of the maps number `images` [n]; `table` holds maps of size `sides`."""
    rows, inside_rows = _list_indices(crop.tops, crop.size[0], sides[0])
    columns, inside_columns = _list_indices(crop.lefts, crop.size[1], sides[1])
    flat = (images[:, None] * sides[0] + rows)[:, :, None] * sides[1] + columns[:, None, :]
    outside = ~(inside_rows[:, :, None] & inside_columns[:, None, :])
    flat = flat.masked_fill_(outside, len(table) - 1)
    return table.index_select(0, flat.view(-1).to(table.device)).view(*flat.shape, table.shape[1])


def _paste_patches(into: Tensor, crop: Crop, patches: Tensor, tops: Tensor, lefts: Tensor) -> None:
    """Set `patches` [n, height, width, channels], which begin at `tops` and `lefts` of the map, into crops of it.

    What does not lie in its crop is left out.
    """
    down, right = tops - crop.tops, lefts - crop.lefts
    if bool((down == down[0]).all()) and bool((right == right[0]).all()):
        rows, from_rows = _find_overlap(int(down[0]), patches.shape[1], into.shape[1])
        columns, from_columns = _find_overlap(int(right[0]), patches.shape[2], into.shape[2])
        into[:, rows, columns] = patches[:, from_rows, from_columns]
        return
    rows_at, inside_rows = _list_indices(down, patches.shape[1], into.shape[1])
    columns_at, inside_columns = _list_indices(right, patches.shape[2], into.shape[2])
    inside = (inside_rows[:, :, None] & inside_columns[:, None, :]).view(-1)
    first = torch.arange(len(into))[:, None] * into.shape[1]
    flat = ((first + rows_at)[:, :, None] * into.shape[2] + columns_at[:, None, :]).view(-1)
    source = patches.reshape(-1, patches.shape[3])
    if not bool(inside.all()):
        indices = inside.nonzero()[:, 0]
        source, flat = source.index_select(0, indices.to(source.device)), flat[indices]
    into.view(-1, into.shape[3]).index_put_((flat.to(into.device),), source)


def _list_indices(first: Tensor, count: int, length: int) -> tuple[Tensor, Tensor]:
    """(`count` indices from each first one [n, count], whether each is one of `length`)."""
    indices = first[:, None] + torch.arange(count)
    return indices, (indices >= 0) & (indices < length)


def _find_overlap(start: int, length: int, room: int) -> tuple[slice, slice]:
    """(where something that starts at `start` lies in a room, which part of it lies there)."""
    low, high = min(max(start, 0), room), max(0, min(start + length, room))
    high = max(low, high)
    return slice(low, high), slice(low - start, high - start)


TOLERANCE = 1e-4
"""Logits of the replay may differ from the network's by this share of the largest one."""
LEAST_GAIN = 1.65
"""How many times faster than full passes incremental ones must be expected to be: measured gains are 0.5 to 0.95 of it."""
FEWEST_WINDOWS = 200
"""For fewer windows in all, recording the network costs as much as it can save."""


def compute_incremental_drops(
    evaluator: BatchedEvaluator,
    images: Images,
    cover: Images,
    targets: Targets,
    tops: list[int],
    lefts: list[int],
    window: int,
    must: bool,
) -> tuple[Tensor, Tensor] | None:
    """Compute f(x) - f(x with a window of `cover`) for windows at `tops` x `lefts`, row by row.

    Args:
        evaluator: The classifier; its bound on images in the network bounds the patches as well.
        images: float32 [n, 3, height, width] in [0, 1].
        cover: What shows in a covered window, of the same shape.
        targets: The target of each image.
        tops: First row of the windows at each vertical position, in pixels.
        lefts: First column at each horizontal position.
        window: Side of a window in pixels.
        must: Whether to raise an error instead of returning None.

    Returns:
        ([n, windows], their rounding [n]), or None where full passes are to be made: the network cannot be replayed, it
        would not pay, memory ran out, or the device is no processor (its costs were never measured).

    Raises:
        Incompatible: Where it `must` be incremental and the network cannot be replayed.
    """
    few = len(images) * len(tops) * len(lefts) < FEWEST_WINDOWS
    if not must and (few or images.device.type != "cpu"):
        return None
    try:
        network = build_incremental_network(evaluator, images, cover, tops, lefts, window)
        if not must and network.plan.estimate_gain(len(images)) < LEAST_GAIN:
            return None
        return _compute_drops(network, evaluator, images, cover, targets)
    except Unrecordable as reason:
        if must:
            raise Incompatible(f"the network cannot be replayed: {reason}; set explainer.incremental=auto") from reason
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if must or not is_out_of_memory(error):
            raise
    return None


@dataclass(frozen=True)
class IncrementalNetwork:
    """A recorded classifier with a plan for square windows at `tops` x `lefts`."""

    nodes: Nodes
    result: Value
    plan: Plan
    keys: set[Key]
    tops: Tensor
    lefts: Tensor
    window: int

    def run_clean(self, images: Images) -> CleanPass:
        """The pass over clean images."""
        return run_clean(self.nodes, self.result, images, self.keys)

    def run_covered(self, group: Group, clean: CleanPass, cover: Images, windows: Windows) -> Tensor:
        """Logits [n, classes] of the clean images with `cover` in the windows of one group."""
        inside = torch.arange(self.window)
        rows = (self.tops[windows.rows][:, None] + inside)[:, :, None].to(cover.device)
        columns = (self.lefts[windows.columns][:, None] + inside)[:, None, :].to(cover.device)
        pixels = cover[windows.images.to(cover.device)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)
        return run_patches(self.nodes, self.result, group, clean, windows, pixels)

    def count_images(self, limit: int) -> int:
        """How many images' clean maps take as much memory as `limit` images in the network."""
        numbers = sum(torch.Size(node.shape).numel() for key in self.keys if (node := self.nodes[key[0]]) is not None)
        return max(1, limit * self.plan.peak // max(1, numbers))

    def count_windows(self, group: Group, limit: int) -> int:
        """How many windows of a group take as much memory as `limit` images in the network."""
        return max(1, limit * self.plan.peak // group.peak)


def build_incremental_network(
    evaluator: BatchedEvaluator, images: Images, cover: Images, tops: list[int], lefts: list[int], window: int
) -> IncrementalNetwork:
    """Record the classifier and plan it for these windows; counts no passes.

    Args:
        evaluator: The classifier.
        images: float32 [n, 3, height, width] in [0, 1].
        cover: What shows in a covered window, of the same shape.
        tops: First row of the windows at each vertical position, in pixels.
        lefts: First column at each horizontal position.
        window: Side of a window in pixels.

    Returns:
        The network.

    Raises:
        Unrecordable: Where the recording does not give the logits of the network, for the first image with the first, a
            middle and the last window covered.
    """
    classifier = evaluator.classifier
    passes = Passes(classifier.passes.forward, classifier.passes.backward)
    checked = [(0, 0), (len(tops) // 2, len(lefts) // 2), (len(tops) - 1, len(lefts) - 1)]
    examples = images[:1].repeat(5, 1, 1, 1)
    for example, (row, column) in zip(examples[2:], checked, strict=True):
        top, left = tops[row], lefts[column]
        area = (slice(None), slice(top, top + window), slice(left, left + window))
        example[area] = cover[0][area]
    try:
        recording, logits = record(classifier, examples)
    finally:
        classifier.passes = passes
    nodes = build_nodes(recording)
    rows, columns = torch.tensor(tops), torch.tensor(lefts)
    spans = (Span(rows, rows + window, images.shape[2]), Span(columns, columns + window, images.shape[3]))
    plan = build_plan(nodes, *spans, len(images))
    keys = find_clean_keys(nodes, plan.groups)
    network = IncrementalNetwork(nodes, recording.result, plan, keys, rows, columns, window)
    try:
        _check_logits(network, images[:1], cover[:1], checked, logits)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise Unrecordable(f"an operation of its record cannot be run again ({error})") from error
    return network


def _check_logits(
    network: IncrementalNetwork, image: Images, cover: Images, checked: list[tuple[int, int]], logits: Tensor
) -> None:
    clean = network.run_clean(image)
    zero = torch.zeros(1, dtype=torch.int64)
    for (row, column), expected in zip(checked, logits, strict=True):
        (group,) = (group for group in network.plan.groups if row in group.rows and column in group.columns)
        replayed = network.run_covered(group, clean, cover, Windows(zero, zero + row, zero + column))[0]
        limit = TOLERANCE * expected.abs().max()
        if replayed.shape != expected.shape or not bool((replayed - expected).abs().max() <= limit):
            raise Unrecordable("its replay does not give the same logits")


def _compute_drops(
    network: IncrementalNetwork, evaluator: BatchedEvaluator, images: Images, cover: Images, targets: Targets
) -> tuple[Tensor, Tensor]:
    """(f(x) - f(x with a window of `cover`) [batch, windows], the windows row by row; their rounding [batch]).

    Windows that hold what covers them cost nothing. Counts one pass for each clean image, and for each window the share
    of a pass's multiplications that it costs, rounded up in the sum. Holds no more numbers than a pass of the evaluator
    does, and the clean maps of at least one image.
    """
    plan, columns, limit = network.plan, len(network.lefts), evaluator.find_limit(False)
    drops = images.new_zeros(len(images), len(network.tops) * columns)
    changed = _find_changed_windows(network, images, cover)
    multiplications, rounding = 0, images.new_zeros(len(images))
    for chunk in torch.arange(len(images)).split(network.count_images(limit)):
        here = chunk.to(images.device)
        clean = network.run_clean(images[here])
        outputs = widen(clean.output)
        scores = targets[here].score(outputs)
        rounding[here] = bound_score_differences(evaluator.classifier, outputs, targets[here], images)
        for group in plan.groups:
            pending = torch.cartesian_prod(chunk - chunk[0], group.rows, group.columns)
            pending = pending[changed[chunk[pending[:, 0]], pending[:, 1], pending[:, 2]]]
            multiplications += len(pending) * group.multiplications
            for batch in pending.split(network.count_windows(group, limit)) if len(pending) else ():
                windows = Windows(*batch.unbind(1))
                image = windows.images.to(images.device)
                logits = widen(network.run_covered(group, clean, cover[here], windows))
                drop = scores[image] - targets[here][image].score(logits)
                drops[here[image], (windows.rows * columns + windows.columns).to(images.device)] = drop
    evaluator.classifier.passes.forward += len(images) + math.ceil(multiplications / max(1, plan.multiplications))
    return drops, rounding


def _find_changed_windows(network: IncrementalNetwork, images: Images, cover: Images) -> Tensor:
    """Whether each window changes any pixel, bool [batch, rows, columns], on the host."""
    differs = (images != cover).any(1, keepdim=True).float()
    anywhere = functional.max_pool2d(differs, network.window, 1)[:, 0].bool().cpu()
    return anywhere[:, network.tops[:, None], network.lefts[None, :]]
