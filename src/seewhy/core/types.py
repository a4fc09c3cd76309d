"""What every part of the project shares: batches of images, predictions, targets and explanations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image. `top` lists the five likeliest (class, probability), best first."""

    index: int
    name: str
    probability: float
    top: tuple[tuple[str, float], ...]
    label: str = ""
    """The true class in words; empty where it is unknown."""
    correct: bool | None = None
    """None where the true class is unknown or unknown to the classifier."""


@dataclass(frozen=True)
class Target:
    """The class that is explained, its probability, and the policy that chose it."""

    index: int
    name: str
    probability: float
    policy: str


@dataclass(frozen=True)
class Explanation:
    """One image with its prediction and one attribution map for one target."""

    name: str
    """Unique in the run and safe as a file name."""
    path: str
    image: Tensor
    """float32 [3, height, width] in [0, 1], as the classifier saw it."""
    prediction: Prediction
    target: Target
    attribution: Tensor
    """float32 [height, width]: larger supports the target more."""
    explainer: str
    """The name of the method, such as `integrated_gradients`."""
    parameters: str
    """The parameters of the method in words, such as `baseline=black, n_steps=50`."""
    signed: bool
    """Whether negative values of the map mean evidence against the target."""
    classifier: str
    """Network and weights in words, such as `mobilenetv3 (shipped: mobilenetv3.safetensors)`."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Further numbers about this map, such as `completeness_gap_relative` or the `n_steps` used."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What was measured of this map, such as `deletion`."""
    warnings: tuple[str, ...] = ()
    """What a reader must know before trusting this map, such as `completeness gap 12 % is over 5 %`."""


Images: TypeAlias = Tensor
"""float32 [batch, 3, height, width], RGB in [0, 1], not normalised."""

Targets: TypeAlias = Tensor
"""int64 [batch]: the index of the class that is explained."""

Attributions: TypeAlias = Tensor
"""float32 [batch, height, width]: larger supports the target more."""


class Skipped(NamedTuple):
    """An image file that could not be used, and why."""

    path: str
    reason: str


class Corrupted(NamedTuple):
    """The corrupted versions of one picture, or of a batch of them (then with a leading batch dimension)."""

    pictures: Tensor
    """uint8 [steps, 3, size, size]."""
    sources: Tensor
    """float32 [moving steps, 2, size, size]: where (x, y) each pixel came from, NaN where from outside."""
    seconds: Tensor
    """What the corruption took."""


class Batch(NamedTuple):
    """Images on their way to the classifier, with what is known about each."""

    images: Images
    labels: Tensor
    """int64 [batch]: index of the true class, -1 where it is unknown."""
    names: list[str]
    """Unique in the data set and safe as a file name."""
    paths: list[str]
    label_names: list[str]
    """The true class in words, empty where it is unknown; it may be a class that the classifier does not know."""
    skipped: list[Skipped]
    masks: Tensor | None = None
    """bool [batch, height, width], true on the object; all false where an image has no mask; None without masks."""
    corrupted: Corrupted | None = None
    """The corrupted versions of the same images, on the host; None where none were asked for."""

    def first(self, count: int) -> Batch:
        """The first `count` images."""
        names, paths, words = self.names[:count], self.paths[:count], self.label_names[:count]
        masks = None if self.masks is None else self.masks[:count]
        corrupted = None if self.corrupted is None else Corrupted(*(part[:count] for part in self.corrupted))
        return Batch(self.images[:count], self.labels[:count], names, paths, words, self.skipped, masks, corrupted)

    def to(self, device: torch.device | str, **options: Any) -> Batch:
        """The batch with its tensors on `device` (Lightning calls this instead of walking through every name)."""
        masks = None if self.masks is None else self.masks.to(device, **options)
        images, labels = self.images.to(device, **options), self.labels.to(device, **options)
        return self._replace(images=images, labels=labels, masks=masks)
