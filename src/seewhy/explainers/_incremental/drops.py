"""What the score of each image loses under each window: the front of incremental occlusion.

`compute_incremental_drops` decides whether an incremental pass pays, builds the `IncrementalNetwork`, which is checked
against the network itself, and falls back to full passes, by returning None, wherever that is allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import Incompatible
from seewhy.core.tensors import widen
from seewhy.core.types import Images, Targets
from seewhy.explainers._incremental.nodes import Nodes, build_nodes
from seewhy.explainers._incremental.patches import CleanPass, Key, Windows, find_clean_keys, run_clean, run_patches
from seewhy.explainers._incremental.plan import Group, Plan, build_plan
from seewhy.explainers._incremental.receptive_fields import Span
from seewhy.explainers._incremental.recording import Unrecordable, Value, record
from seewhy.explainers.rounding import bound_score_differences
from seewhy.models.batched import BatchedEvaluator, is_out_of_memory
from seewhy.models.classifier import Passes

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
