"""What a set of weights assumes about its images and what its outputs mean."""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seewhy.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)


IMAGENET_STD = (0.229, 0.224, 0.225)


CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)


CIFAR10_STD = (0.2470, 0.2435, 0.2616)


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


LARGEST_SIZE = 8192


INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
SCORES = ("softmax",)
"""What the outputs of a network can mean: `softmax`, the logits of classes that exclude each other."""


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
    score: str = "softmax"

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
        if self.score not in SCORES:
            raise UserError(f"score={self.score!r} of the network's outputs is none of {', '.join(SCORES)}")

    def compute_probabilities(self, logits: Tensor) -> Tensor:
        """The probability of each class [..., classes] from the network's outputs [..., classes]."""
        return logits.softmax(-1)

    def replace(self, changes: Mapping[str, Any]) -> Facts:
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
