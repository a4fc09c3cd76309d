"""The gradient of the score at the image, and its product with the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from seewhy.core.settings import OneOf
from seewhy.core.types import Attributions, Images, Targets
from seewhy.explainers.base import ChannelExplainer
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class InputXGradient(ChannelExplainer):
    """Sum over channels of image * d score / d image, for images in [0, 1]: a black pixel has the value 0.

    Shrikumar, Greenside, Shcherbina, Kundaje: Not just a black box, 2016.
    """

    passes: ClassVar[tuple[int, int] | None] = (1, 1)
    is_local: ClassVar[bool] = True

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """Compute image * gradient."""
        return evaluator.compute_gradient(images, targets).mul_(images)


@dataclass(frozen=True, kw_only=True)
class Saliency(ChannelExplainer):
    """max over channels of |d score / d pixel|, never negative.

    Where all values of a pooling window are equal, as in a flat image, rounding decides which of them has the gradient; how
    much of the map that is, is measured and said where a quarter of the image is flat, as for all methods of this kind.
    Simonyan, Vedaldi, Zisserman: Deep inside convolutional networks, 2014.

    Args:
        reduction: Over the channels: `max` of absolute values, as published, or the signed `sum`.
    """

    reduction: Annotated[str, OneOf(("max", "sum"))] = "max"

    passes: ClassVar[tuple[int, int] | None] = (1, 1)
    is_local: ClassVar[bool] = True

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether the reduction keeps the sign."""
        return self.reduction == "sum"

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """Compute the gradient, with its sign."""
        return evaluator.compute_gradient(images, targets)

    def reduce(self, attributions: Images) -> Attributions:
        """Take the largest absolute value, or the sum, over the channels."""
        return attributions.abs().amax(1) if self.reduction == "max" else attributions.sum(1)
