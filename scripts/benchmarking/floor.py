"""The floor: what the passes that a method needs cost at least on this machine, measured in the same run."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarking.clock import read_clock
from seewhy.models import batched
from seewhy.models.classifier import Classifier, Passes

SIZES = {"cpu": (1, 2, 4, 8, 16, 32, 64), "cuda": (8, 16, 32, 64, 128, 256, 512)}
AS_FAST = 0.03
"""Of batch sizes that are as fast as the fastest up to this share, the smallest is taken."""
LONGEST = 2
"""Seconds of a pass after which no larger batch is tried."""


@dataclass(frozen=True)
class Floor:
    """Seconds per image of the bare pass at its best batch size, without and with the gradient of the image."""

    forward: float
    gradient: float
    sizes: tuple[int, int]

    def seconds(self, passes: Passes) -> float:
        """What these passes cost at least; every backward pass comes with a forward one."""
        return (passes.forward - passes.backward) * self.forward + passes.backward * self.gradient


def bare_pass(classifier: Classifier, images: Tensor, gradient: bool) -> float:
    """Seconds per image of one pass over a batch."""
    with torch.set_grad_enabled(gradient), classifier.frozen():
        leaves = images.detach().clone().requires_grad_(gradient)
        start = read_clock(images.device)
        total = classifier(leaves).sum()
        if gradient:
            torch.autograd.grad(total, leaves)
        spent = read_clock(images.device) - start
    return spent / len(images)


def best_sizes(classifier: Classifier, image: Tensor, budget: float = 1.5) -> tuple[int, int]:
    """The batch sizes of the fastest bare passes without and with gradient; `budget` seconds for each."""
    return _best_size(classifier, image, False, budget), _best_size(classifier, image, True, budget)


def _best_size(classifier: Classifier, image: Tensor, gradient: bool, budget: float) -> int:
    """Every size is timed in every round, so that a busy moment hits all of them."""
    found: dict[int, float] = {}
    for size in SIZES.get(image.device.type, SIZES["cpu"]):
        images = image.expand(size, -1, -1, -1)
        try:
            bare_pass(classifier, images, gradient)
            found[size] = bare_pass(classifier, images, gradient)
        except torch.OutOfMemoryError:
            break
        if found[size] * size > LONGEST:
            break
    start, rounds = read_clock(image.device), 0
    while rounds < 2 or read_clock(image.device) - start < budget:
        for size in found:
            again = bare_pass(classifier, image.expand(size, -1, -1, -1), gradient)
            found[size] = min(found[size], again)
        rounds += 1
    return next(size for size in found if found[size] <= (1 + AS_FAST) * min(found.values()))


def remember(classifier: Classifier, image: Tensor, sizes: tuple[int, int]) -> None:
    """Let `probe_batch_size=auto` take these sizes, as it does once it has measured on a machine that is not busy.

    The classifier keeps to them from its first pass on, also where that is computed layer by layer.
    """
    assert os.environ.get("XDG_CACHE_HOME"), "the user's own sizes must stay as they are"
    measured = {batched.name_measurement(classifier, image, bool(index)): size for index, size in enumerate(sizes)}
    batched.save_batch_sizes(measured)
    classifier.batch_sizes |= {batched.name_pass(image, bool(index)): size for index, size in enumerate(sizes)}


def measured_floor(
    classifier: Classifier, image: Tensor, sizes: tuple[int, int], rounds: int = 5, needed: Passes | None = None
) -> Floor:
    """The bare passes at given batch sizes: of each the median of some rounds; 0 for a kind that is not `needed`."""

    def measured(size: int, gradient: bool) -> float:
        images = image.expand(size, -1, -1, -1)
        return statistics.median(bare_pass(classifier, images, gradient) for _ in range(rounds))

    forward = needed is None or needed.forward > needed.backward
    gradient = needed is None or needed.backward > 0
    return Floor(measured(sizes[0], False) if forward else 0.0, measured(sizes[1], True) if gradient else 0.0, sizes)


class Multiplications(TorchDispatchMode):
    """Counts the multiplications in convolutions and matrix products, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def multiplications(call: Callable[[], object]) -> int:
    """What a call multiplies."""
    with Multiplications() as counter:
        call()
    return counter.total


def work(classifier: Classifier, image: Tensor, call: Callable[[], object]) -> float | None:
    """The multiplications of a call over those of the passes that it counts: what a method computes beside its passes.

    A rule that needs several convolutions for each layer on the way back is above 1, and so is its time over the floor.
    """
    bare_pass(classifier, image, False)  # looks the network over, which is done once
    forward = multiplications(lambda: bare_pass(classifier, image, False))
    gradient = multiplications(lambda: bare_pass(classifier, image, True))
    earlier = Passes(classifier.passes.forward, classifier.passes.backward)
    made = multiplications(call)
    passes = classifier.passes.since(earlier)
    bare = (passes.forward - passes.backward) * forward + passes.backward * gradient
    return made / bare if bare else None
