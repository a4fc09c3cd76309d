"""Guided Grad-CAM: the fine lines of guided backpropagation where Grad-CAM sees the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from seewhy.explainers.base import Attributed, Explainer
from seewhy.explainers.grad_cam import GradCam
from seewhy.explainers.guided_backprop import GuidedBackprop
from seewhy.probe import Probe
from seewhy.types import Images, Targets


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

    def _attribute(self, probe: Probe, images: Images, targets: Targets) -> Attributed:
        lines = GuidedBackprop(reduction=self.reduction)._attribute(probe, images, targets).maps
        places = GradCam(layer=self.layer)._attribute(probe, images, targets).maps
        return Attributed(lines * places)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """Two passes each way."""
        return 2, 2
