"""What is known about one decision: the image, the prediction, the target and the attribution map.

What a set of weights assumes about its images and what its outputs mean.
The words and shapes that every part of the project shares.
"""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from seewhy.core.errors import UserError


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


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LARGEST_SIZE = 8192
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class Facts:
    """Preprocessing and class names that travel with the weights.

    `crop` is the share of the resized shorter side that the centre crop keeps (timm's crop_pct); `mean` and `std` are
    those of images in [0, 1].
    """

    classes: tuple[str, ...]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float = 1.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= LARGEST_SIZE:
            raise UserError(f"model.size={self.size} must be at least 1 pixel and at most {LARGEST_SIZE}")
        if any(unicodedata.category(one) == "Cc" for name in self.classes for one in name):
            raise UserError("a class name holds a control character, such as a new line; set model.classes")
        numbers = (*self.mean, *self.std)
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise UserError(f"model.mean={list(self.mean)} and model.std={list(self.std)} must be finite numbers")
        if len(self.mean) != 3 or len(self.std) != 3:
            raise UserError(
                f"model.mean={list(self.mean)} and model.std={list(self.std)} need one number for each of R, G, B"
            )
        if min(self.std) <= 0:
            raise UserError(f"model.std={list(self.std)} must be positive")
        if not 0 < self.crop <= 1:
            raise UserError(f"model.crop={self.crop} must be in (0, 1]: the share of the shorter side that is kept")
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(f"model.interpolation={self.interpolation!r} is none of {', '.join(INTERPOLATIONS)}")

    def changed(self, changes: Mapping[str, Any]) -> Facts:
        """These facts with every given field replaced that is not None."""
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()
        }
        return dataclasses.replace(self, **{key: value for key, value in given.items() if value is not None})

    def to_metadata(self) -> dict[str, str]:
        """The facts as the string-to-string header of a safetensors file."""
        return {"facts": json.dumps(dataclasses.asdict(self))}

    @staticmethod
    def from_metadata(metadata: Mapping[str, str] | None) -> Facts | None:
        """Read back what `to_metadata` wrote; None where a file carries no facts, UserError where they are damaged."""
        if not isinstance(metadata, Mapping) or "facts" not in metadata:
            return None
        try:
            fields = json.loads(metadata["facts"])
            facts: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
            }
            return Facts(**facts)
        except UserError:
            raise
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"its facts (classes, size, mean, ...) are damaged: {error}") from error


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
