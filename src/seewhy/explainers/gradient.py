"""Input x gradient: each pixel times the gradient of the score there.

Saliency: where a small change of a pixel changes the score most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seewhy.core.errors import UserError
from seewhy.core.types import Attributions, Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class InputXGradient(Explainer):
    """Sum over channels of image * d logit / d image, for images in [0, 1]: a black pixel has the value 0.

    Shrikumar, Greenside, Shcherbina, Kundaje: Not just a black box, 2016.
    """

    @property
    def name(self) -> str:
        """`input_x_gradient`."""
        return "input_x_gradient"

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        return AttributionResult(self.reduce(self.attribute_channels(evaluator, images, targets)))

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """image * gradient [batch, 3, height, width]."""
        return evaluator.compute_gradient(images, targets).mul_(images)

    def reduce(self, per_channel: Images) -> Attributions:
        """Sum over the channels."""
        return per_channel.sum(1)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way."""
        return 1, 1


@dataclass(frozen=True, kw_only=True)
class Saliency(Explainer):
    """max over channels of |d logit / d pixel|, never negative.

    `reduction=sum` gives the signed sum of the gradient over the channels instead of the published maximum.
    Simonyan, Vedaldi, Zisserman: Deep inside convolutional networks, 2014.
    """

    reduction: str = "max"

    def __post_init__(self) -> None:
        if self.reduction not in ("max", "sum"):
            raise UserError(f"explainer.reduction={self.reduction!r} must be max or sum")

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether the reduction keeps the sign."""
        return self.reduction == "sum"

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        return AttributionResult(self.reduce(self.attribute_channels(evaluator, images, targets)))

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """The gradient [batch, 3, height, width], with its sign."""
        return evaluator.compute_gradient(images, targets)

    def reduce(self, per_channel: Images) -> Attributions:
        """The largest absolute value, or the sum, over the channels."""
        return per_channel.abs().amax(1) if self.reduction == "max" else per_channel.sum(1)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way."""
        return 1, 1
