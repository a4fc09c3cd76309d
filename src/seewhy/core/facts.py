"""Facts of a classifier: what its weights assume about images, and what its outputs mean."""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seewhy.core.errors import UserError, check_choice

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of each channel of ImageNet's images in [0, 1]."""
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
"""Of each channel of CIFAR-10's images in [0, 1]."""
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LARGEST_SIZE = 8192
"""Pixels of one side of an image, at most."""
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
SCORES = ("softmax",)
"""What the outputs of a network can mean: `softmax`, the logits of classes that exclude each other."""


@dataclass(frozen=True)
class Facts:
    """Class names, preprocessing and meaning of the outputs, which travel with the weights.

    Raises:
        UserError: A value is out of range.
    """

    classes: tuple[str, ...]
    """The name of each output."""
    size: int
    """Height and width of the images in pixels."""
    mean: tuple[float, ...]
    """Of each channel, for images in [0, 1]."""
    std: tuple[float, ...]
    """Of each channel, for images in [0, 1]."""
    crop: float = 1.0
    """Share of the resized shorter side that the centre crop keeps, in (0, 1] (timm's crop_pct)."""
    interpolation: str = "bilinear"
    """How images are resized: nearest, bilinear or bicubic."""
    score: str = "softmax"
    """What the outputs mean, one of `SCORES`."""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= LARGEST_SIZE:
            raise UserError(f"model.size={self.size} must be at least 1 pixel and at most {LARGEST_SIZE}")
        if any(unicodedata.category(letter) == "Cc" for name in self.classes for letter in name):
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
        check_choice("model.interpolation", self.interpolation, INTERPOLATIONS)
        if self.score not in SCORES:
            raise UserError(f"score={self.score!r} of the network's outputs is none of {', '.join(SCORES)}")

    def compute_probabilities(self, logits: Tensor) -> Tensor:
        """Compute the probability of each class.

        Args:
            logits: Outputs of the network [..., classes].

        Returns:
            [..., classes]; they sum to 1.
        """
        return logits.softmax(-1)

    def replace(self, changes: Mapping[str, Any]) -> Facts:
        """Replace fields.

        Args:
            changes: New values by field; a field whose value is None stays as it is.

        Returns:
            The changed facts.
        """
        fields = {key: value for key, value in _with_tuples(changes).items() if value is not None}
        return dataclasses.replace(self, **fields)

    def to_metadata(self) -> dict[str, str]:
        """Write the facts for a file.

        Returns:
            The header of a safetensors file, from strings to strings.
        """
        return {"facts": json.dumps(dataclasses.asdict(self))}

    @staticmethod
    def from_metadata(metadata: Mapping[str, str] | None) -> Facts | None:
        """Read back what `to_metadata` wrote.

        Args:
            metadata: The header of a safetensors file, or what a checkpoint holds in its place.

        Returns:
            The facts; None where the file carries none.

        Raises:
            UserError: They are damaged.
        """
        if not isinstance(metadata, Mapping) or "facts" not in metadata:
            return None
        try:
            return Facts(**_with_tuples(json.loads(metadata["facts"])))
        except UserError:
            raise
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"its facts (classes, size, mean, ...) are damaged: {error}") from error


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with a tuple for each list."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
