"""Deconvolution: the way back through the network with a ReLU on the signal instead of on the activations.

Guided backprop: the gradient along paths that are active forwards and supportive backwards.
Guided Grad-CAM: the fine lines of guided backpropagation where Grad-CAM sees the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.rectifiers import DECONVOLVED, GUIDED, RectifierRule, compute_rectified_gradient
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.cam import GradCam
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class RectifiedGradient(Explainer):
    """d logit / d image under a changed rule at each ReLU; `reduction` over the channels: `sum`, or `max` of |.|.

    The rule is set on the autograd graph of the very pass that is differentiated: the network is not touched. ReLU6
    counts as a ReLU followed by min(., 6). Incompatible where an activation is no rectifier.
    """

    reduction: str = "sum"

    rule: ClassVar[RectifierRule]
    """The backward rule of a rectifier."""

    def __post_init__(self) -> None:
        if self.reduction not in ("sum", "max"):
            raise UserError(f"explainer.reduction={self.reduction!r} must be sum or max")

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        def compute(chunk: Tensor) -> tuple[Tensor]:
            return (
                compute_rectified_gradient(evaluator.classifier, images[chunk], targets[chunk], self.rule, self.name),
            )

        (gradient,) = evaluator.run_passes(compute, len(images), gradient=True)
        return AttributionResult(gradient.sum(1) if self.reduction == "sum" else gradient.abs().amax(1))

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way."""
        return 1, 1


@dataclass(frozen=True, kw_only=True)
class Deconvolution(RectifiedGradient):
    """The gradient of the logit where each ReLU passes g * (g > 0) backwards, whatever its argument was.

    Summed over the channels, or with `reduction=max` the largest |.|.
    Zeiler, Fergus: Visualizing and understanding convolutional networks, ECCV 2014.
    """

    rule: ClassVar[RectifierRule] = DECONVOLVED


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(RectifiedGradient):
    """The gradient of the logit where each ReLU passes g * (its argument > 0) * (g > 0) backwards.

    Summed over the channels, or with `reduction=max` the largest |.|. Nearly independent of the weights of the later
    layers (Adebayo et al., Sanity checks for saliency maps, 2018): a picture of the image more than of the decision.
    Springenberg et al.: Striving for simplicity: the all convolutional net, 2015.
    """

    rule: ClassVar[RectifierRule] = GUIDED


@dataclass(frozen=True, kw_only=True)
class GuidedGradCam(Explainer):
    """Guided backpropagation times Grad-CAM (enlarged bilinearly), pixel by pixel.

    `layer` is that of Grad-CAM (None: the classifier's own choice), `reduction` over the channels that of guided
    backpropagation: `sum`, or `max` of |.|. Incompatible wherever guided backpropagation is.
    Selvaraju et al.: Grad-CAM, ICCV 2017.
    """

    layer: str | None = None
    reduction: str = "sum"
    signed: ClassVar[bool] = GuidedBackprop.signed

    def __post_init__(self) -> None:
        GuidedBackprop(reduction=self.reduction)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        lines = GuidedBackprop(reduction=self.reduction)._attribute(evaluator, images, targets).maps
        places = GradCam(layer=self.layer)._attribute(evaluator, images, targets).maps
        return AttributionResult(lines * places)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """Two passes each way."""
        return 2, 2
