"""The corrupted versions of a batch, in groups that are measured together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seewhy.corruptions.attack import Attack
from seewhy.corruptions.corrupter import Step
from seewhy.preprocess import to_unit_range
from seewhy.probe import Probe
from seewhy.types import Batch, Images, Targets

CHUNK = 64 * 224**2
"""Pixels of the images of one group: it bounds memory, whatever the corruptions and their levels."""


class Group(NamedTuple):
    """Some steps for every image of a batch."""

    steps: Sequence[Step]
    images: Tensor
    """float32 [batch, steps, 3, height, width] in [0, 1]."""
    sources: Tensor | None = None
    """float32 [batch, steps, 2, height, width] where the steps moved pixels."""
    attacked: Targets | None = None
    """int64 [batch]: the class whose score an attack pushed down."""


def corrupted_groups(batch: Batch, steps: Sequence[Step], moving: Sequence[int]) -> Iterator[Group]:
    """The versions that came with the batch: those that move pixels apart from the others."""
    if batch.corrupted is None:
        return
    each = max(1, CHUNK // (len(batch.images) * batch.images.shape[-1] * batch.images.shape[-2]))
    still = [number for number in range(len(steps)) if number not in set(moving)]
    for chosen, moved in ((still, False), (list(moving), True)):
        for start in range(0, len(chosen), each):
            part = chosen[start : start + each]
            images = to_unit_range(batch.corrupted.pictures[:, part].to(batch.images.device))
            sources = batch.corrupted.sources[:, start : start + each].to(batch.images.device) if moved else None
            yield Group([steps[number] for number in part], images, sources)


def attacked_groups(
    attacks: Mapping[str, Attack], probe: Probe, images: Images, classes: Targets, seed: int
) -> Iterator[Group]:
    """Each level of each attack against `classes`."""
    for name, attack in attacks.items():
        for level, attacked in enumerate(attack.levels(probe, images, classes, seed), 1):
            yield Group([Step(name, level)], attacked[:, None], attacked=classes)


def attacked_classes(predicted: Targets, labels: Tensor) -> Targets:
    """The true class where it is known, else the predicted one."""
    return torch.where(labels >= 0, labels, predicted)
