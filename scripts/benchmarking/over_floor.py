"""A call beside the floor of the passes that it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from benchmarking.clock import Spread, seconds
from benchmarking.floor import measured_floor
from seewhy.models.classifier import Classifier, Passes

LONG = 60
"""Seconds of a call that is not made again."""


@dataclass(frozen=True)
class OverFloor:
    """Seconds of a call for each image, its passes for each image, and their ratio to the floor (None without passes)."""

    seconds: Spread
    passes: Passes
    ratio: Spread | None


def over_floor(
    classifier: Classifier,
    images: Tensor,
    call: Callable[[], object],
    sizes: tuple[int, int],
    repeats: int,
    rounds: int,
) -> OverFloor:
    """`repeats` turns after a first one that warms up; the floor is the median of some `rounds` before and after each.

    A call that takes longer than `LONG` has one turn.
    """
    passes = counted(classifier, call, len(images))

    def floor() -> float:
        return measured_floor(classifier, images[:1], sizes, rounds, passes).seconds(passes)

    spent, ratios = [], []
    before = floor() if passes.forward else 0.0
    for _ in range(repeats):
        spent.append(seconds(call, images.device) / len(images))
        if passes.forward:
            after = floor()
            ratios.append(2 * spent[-1] / (before + after))
            before = after
        if spent[-1] * len(images) > LONG:
            break
    return OverFloor(Spread.of(spent), passes, Spread.of(ratios) if ratios else None)


def counted(classifier: Classifier, call: Callable[[], object], images: int) -> Passes:
    """The passes of a call for each of its images."""
    earlier = Passes(classifier.passes.forward, classifier.passes.backward)
    call()
    spent = classifier.passes.since(earlier)
    return Passes(round(spent.forward / images), round(spent.backward / images))
