"""Scores of images with a window covered, by computing again only what the window can change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.batch_size import out_of_memory
from seewhy.classifier import Passes
from seewhy.incremental.clean import Clean, Key, clean_pass, keys_of
from seewhy.incremental.nodes import Nodes, nodes_of
from seewhy.incremental.patch_pass import Windows, patch_pass
from seewhy.incremental.plan import Group, Plan, make_plan
from seewhy.incremental.recording import Unrecordable, Value, record
from seewhy.incremental.span import Span
from seewhy.probe import Probe
from seewhy.types import Images

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
    probe: Probe, images: Images, cover: Images, tops: list[int], lefts: list[int], window: int
) -> IncrementalNetwork:
    """The classifier of `probe`, recorded and planned for these windows; counts no passes.

    Unrecordable where the record does not give the logits of the network, for the first image with the first, a middle
    and the last window covered.
    """
    classifier = probe.classifier
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
        if out_of_memory(error):
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
