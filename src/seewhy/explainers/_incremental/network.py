"""Whether windows are computed incrementally: where the network allows it and where it pays.

Scores of images with a window covered, by computing again only what the window can change.
What the score of each image loses under each window.
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
from seewhy.explainers._incremental.layers import Span
from seewhy.explainers._incremental.nodes import Nodes, nodes_of
from seewhy.explainers._incremental.patches import Clean, Key, Windows, clean_pass, keys_of, patch_pass
from seewhy.explainers._incremental.plan import Group, Plan, make_plan
from seewhy.explainers._incremental.recording import Unrecordable, Value, record
from seewhy.models.batched import BatchedEvaluator, is_out_of_memory
from seewhy.models.classifier import Passes

CLOSE = 1e-4
"""Logits of the replay may differ from the network's by this share of the largest one."""


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

    def clean(self, images: Images) -> Clean:
        """The pass over clean images."""
        return clean_pass(self.nodes, self.result, images, self.keys)

    def covered(self, group: Group, clean: Clean, cover: Images, windows: Windows) -> Tensor:
        """Logits [n, classes] of the clean images with `cover` in the windows of one group."""
        inside = torch.arange(self.window)
        rows = (self.tops[windows.rows][:, None] + inside)[:, :, None].to(cover.device)
        columns = (self.lefts[windows.columns][:, None] + inside)[:, None, :].to(cover.device)
        pixels = cover[windows.images.to(cover.device)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)
        return patch_pass(self.nodes, self.result, group, clean, windows, pixels)

    def images_at_once(self, limit: int) -> int:
        """How many images' clean maps take as much memory as `limit` images in the network."""
        kept = sum(torch.Size(node.shape).numel() for key in self.keys if (node := self.nodes[key[0]]) is not None)
        return max(1, limit * self.plan.peak // max(1, kept))

    def windows_at_once(self, group: Group, limit: int) -> int:
        """How many windows of a group take as much memory as `limit` images in the network."""
        return max(1, limit * self.plan.peak // group.peak)


def incremental_network(
    evaluator: BatchedEvaluator, images: Images, cover: Images, tops: list[int], lefts: list[int], window: int
) -> IncrementalNetwork:
    """The classifier of `evaluator`, recorded and planned for these windows; counts no passes.

    Unrecordable where the record does not give the logits of the network, for the first image with the first, a middle
    and the last window covered.
    """
    classifier = evaluator.classifier
    counted = Passes(classifier.passes.forward, classifier.passes.backward)
    corners = [(tops[0], lefts[0]), (tops[len(tops) // 2], lefts[len(lefts) // 2]), (tops[-1], lefts[-1])]
    examples = images[:1].repeat(5, 1, 1, 1)
    for example, (top, left) in zip(examples[2:], corners, strict=True):
        area = (slice(None), slice(top, top + window), slice(left, left + window))
        example[area] = cover[0][area]
    try:
        recorded, logits = record(classifier, examples)
    finally:
        classifier.passes = counted
    nodes = nodes_of(recorded)
    rows, columns = torch.tensor(tops), torch.tensor(lefts)
    spans = (Span(rows, rows + window, images.shape[2]), Span(columns, columns + window, images.shape[3]))
    plan = make_plan(nodes, *spans, len(images))
    made = IncrementalNetwork(nodes, recorded.result, plan, keys_of(nodes, plan.groups), rows, columns, window)
    try:
        _check(made, images[:1], cover[:1], logits)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise Unrecordable(f"an operation of its record cannot be run again ({error})") from error
    return made


def _check(network: IncrementalNetwork, image: Images, cover: Images, logits: Tensor) -> None:
    clean = network.clean(image)
    zero = torch.zeros(1, dtype=torch.int64)
    places = [
        (0, 0),
        (len(network.tops) // 2, len(network.lefts) // 2),
        (len(network.tops) - 1, len(network.lefts) - 1),
    ]
    for (row, column), expected in zip(places, logits, strict=True):
        (group,) = (group for group in network.plan.groups if row in group.rows and column in group.columns)
        found = network.covered(group, clean, cover, Windows(zero, zero + row, zero + column))[0]
        if found.shape != expected.shape or not bool((found - expected).abs().max() <= CLOSE * expected.abs().max()):
            raise Unrecordable("its replay does not give the same logits")


def planned_drops(
    network: IncrementalNetwork, evaluator: BatchedEvaluator, images: Images, cover: Images, targets: Targets
) -> Tensor:
    """f(x) - f(x with a window of `cover`) [batch, windows], the windows row by row.

    Windows that hold what covers them cost nothing. Counts one pass for each clean image, and for each window the share
    of a pass's multiplications that it costs, rounded up in the sum. Holds no more numbers than a pass of the evaluator
    does, and the clean maps of at least one image.
    """
    plan, columns, limit = network.plan, len(network.lefts), evaluator.find_limit(False)
    drops = images.new_zeros(len(images), len(network.tops) * columns)
    changed = _changed(network, images, cover)
    spent = 0
    for part in torch.arange(len(images)).split(network.images_at_once(limit)):
        here = part.to(images.device)
        clean = network.clean(images[here])
        scores = targets[here].score(widen(clean.output))
        for group in plan.groups:
            every = torch.cartesian_prod(part - part[0], group.rows, group.columns)
            every = every[changed[part[every[:, 0]], every[:, 1], every[:, 2]]]
            spent += len(every) * group.multiplications
            for chunk in every.split(network.windows_at_once(group, limit)) if len(every) else ():
                windows = Windows(*chunk.unbind(1))
                image = windows.images.to(images.device)
                logits = widen(network.covered(group, clean, cover[here], windows))
                drop = scores[image] - targets[here][image].score(logits)
                drops[here[image], (windows.rows * columns + windows.columns).to(images.device)] = drop
    evaluator.classifier.passes.forward += len(images) + math.ceil(spent / max(1, plan.multiplications))
    return drops


def _changed(network: IncrementalNetwork, images: Images, cover: Images) -> Tensor:
    """Whether each window changes any pixel, bool [batch, rows, columns], on the host."""
    differs = (images != cover).any(1, keepdim=True).float()
    anywhere = functional.max_pool2d(differs, network.window, 1)[:, 0].bool().cpu()
    return anywhere[:, network.tops[:, None], network.lefts[None, :]]


LEAST_GAIN = 1.65
"""How many times faster than full passes incremental ones must be expected to be: measured gains are 0.5 to 0.95 of it."""
FEWEST_WINDOWS = 200
"""For fewer windows in all, recording the network costs as much as it can save."""


def incremental_drops(
    evaluator: BatchedEvaluator,
    images: Images,
    cover: Images,
    targets: Targets,
    tops: list[int],
    lefts: list[int],
    window: int,
    must: bool,
) -> Tensor | None:
    """f(x) - f(x with a window of `cover`) [batch, windows] at `tops` x `lefts`, row by row.

    Where it `must` not be incremental, None says that full passes are to be made: the network cannot be replayed, it
    would not pay, memory ran out, or the device is no processor (its costs were never measured). Otherwise
    Incompatible where it cannot.
    """
    few = len(images) * len(tops) * len(lefts) < FEWEST_WINDOWS
    if not must and (few or images.device.type != "cpu"):
        return None
    try:
        network = incremental_network(evaluator, images, cover, tops, lefts, window)
        if not must and network.plan.gain(len(images)) < LEAST_GAIN:
            return None
        return planned_drops(network, evaluator, images, cover, targets)
    except Unrecordable as reason:
        if must:
            raise Incompatible(f"the network cannot be replayed: {reason}; set explainer.incremental=auto") from reason
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if must or not is_out_of_memory(error):
            raise
    return None
