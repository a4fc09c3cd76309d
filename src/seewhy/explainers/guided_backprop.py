"""The gradient with another backward rule at each ReLU (guided backpropagation, deconvolution), and Guided Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from torch import Tensor

from seewhy.core.settings import OneOf, Text
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.rectifiers import DECONVOLVED, GUIDED, RectifierRule, compute_rectified_gradient
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.cam import GradCam, choose_layer
from seewhy.models.batched import BatchedEvaluator

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier


@dataclass(frozen=True, kw_only=True)
class RectifiedGradient(Explainer):
    """d score / d image under a changed rule at each ReLU.

    The rule is set on the autograd graph of the very pass that is differentiated: the network is not touched. ReLU6
    counts as a ReLU followed by min(., 6). Incompatible where an activation is no rectifier.

    Args:
        reduction: Over the channels: `sum`, or `max` of absolute values.
    """

    reduction: Annotated[str, OneOf(("sum", "max"))] = "sum"

    rule: ClassVar[RectifierRule]
    """The backward rule of a rectifier."""
    looks_inside: ClassVar[str] = "operations"
    passes: ClassVar[tuple[int, int] | None] = (1, 1)
    is_local: ClassVar[bool] = True

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether the reduction keeps the sign."""
        return self.reduction == "sum"

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        def compute_gradient(rows: Tensor) -> tuple[Tensor]:
            gradient = compute_rectified_gradient(
                evaluator.classifier, images[rows], targets[rows], self.rule, self.name
            )
            return (gradient,)

        (gradient,) = evaluator.run_passes(compute_gradient, len(images), gradient=True)
        return AttributionResult(gradient.sum(1) if self.reduction == "sum" else gradient.abs().amax(1))


@dataclass(frozen=True, kw_only=True)
class Deconvolution(RectifiedGradient):
    """The gradient of the score where each ReLU passes g * (g > 0) backwards, whatever its argument was.

    Zeiler, Fergus: Visualizing and understanding convolutional networks, ECCV 2014.
    """

    rule: ClassVar[RectifierRule] = DECONVOLVED


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(RectifiedGradient):
    """The gradient of the score where each ReLU passes g * (its argument > 0) * (g > 0) backwards.

    Nearly independent of the weights of the later layers (Adebayo et al., Sanity checks for saliency maps, 2018): a
    picture of the image more than of the decision.
    Springenberg et al.: Striving for simplicity: the all convolutional net, 2015.
    """

    rule: ClassVar[RectifierRule] = GUIDED


@dataclass(frozen=True, kw_only=True)
class GuidedGradCam(Explainer):
    """Guided backpropagation times Grad-CAM (enlarged bilinearly), pixel by pixel.

    Incompatible wherever guided backpropagation is.
    Selvaraju et al.: Grad-CAM, ICCV 2017.

    Args:
        layer: The layer of Grad-CAM; None: the classifier's own choice.
        reduction: Of guided backpropagation over the channels: `sum`, or `max` of absolute values.
    """

    layer: Text | None = None
    reduction: Annotated[str, OneOf(("sum", "max"))] = "sum"

    looks_inside: ClassVar[str] = "operations"
    passes: ClassVar[tuple[int, int] | None] = (2, 2)
    is_local: ClassVar[bool] = True

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether the reduction keeps the sign."""
        return self.reduction == "sum"

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        fine = GuidedBackprop(reduction=self.reduction)._attribute(evaluator, images, targets).maps
        coarse = GradCam(layer=self.layer)._attribute(evaluator, images, targets).maps
        return AttributionResult(fine * coarse)

    def _resolve(self, classifier: Classifier, size: tuple[int, int]) -> GuidedGradCam:
        """Name the layer that is used at this size."""
        return replace(self, layer=choose_layer(classifier, size, self.layer))
