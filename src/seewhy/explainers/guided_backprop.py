"""Deconvolution: the way back through the network with a ReLU on the signal instead of on the activations.

Guided backprop: the gradient along paths that are active forwards and supportive backwards.
Guided Grad-CAM: the fine lines of guided backpropagation where Grad-CAM sees the class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.autograd.graph import Node

from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.rectifiers import CutRule, RectifiedGradient, deconvolved, guided, upper_bound
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.cam import GradCam
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class Deconvolution(RectifiedGradient):
    """The gradient of the logit where each ReLU passes g * (g > 0) backwards, whatever its argument was.

    Summed over the channels, or with `reduction=max` the largest |.|.
    Zeiler, Fergus: Visualizing and understanding convolutional networks, ECCV 2014.
    """

    rule: ClassVar[CutRule] = staticmethod(deconvolved)

    def change_rule(self, rectifier: Node) -> None:
        """The ReLU's own result is replaced; the bound of a ReLU6 keeps its true derivative."""
        bounded = upper_bound(rectifier)

        def deconvolve(inner: tuple, outer: tuple) -> tuple:  # type: ignore[type-arg]
            if bounded is None:
                signal = outer[0].clamp(min=0)
            else:
                signal = torch.ops.aten.hardtanh_backward(outer[0], bounded[0], -math.inf, bounded[1]).clamp_(min=0)
            return signal, *(None for _ in inner[1:])

        rectifier.register_hook(deconvolve)


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(RectifiedGradient):
    """The gradient of the logit where each ReLU passes g * (its argument > 0) * (g > 0) backwards.

    Summed over the channels, or with `reduction=max` the largest |.|. Nearly independent of the weights of the later
    layers (Adebayo et al., Sanity checks for saliency maps, 2018): a picture of the image more than of the decision.
    Springenberg et al.: Striving for simplicity: the all convolutional net, 2015.
    """

    rule: ClassVar[CutRule] = staticmethod(guided)

    def change_rule(self, rectifier: Node) -> None:
        """Negative gradients stop behind the ReLU's own rule, in the memory that this has just written."""

        def guide(inner: tuple, outer: object) -> tuple:  # type: ignore[type-arg]
            return inner[0].clamp_(min=0), *inner[1:]

        rectifier.register_hook(guide)


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
