"""Input x gradient: each pixel times the gradient of the score there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seewhy.explainers.base import Attributed, Explainer
from seewhy.probe import Probe
from seewhy.types import Attributions, Images, Targets


@dataclass(frozen=True, kw_only=True)
class InputXGradient(Explainer):
    """Sum over channels of image * d logit / d image, for images in [0, 1]: a black pixel has the value 0.

    Shrikumar, Greenside, Shcherbina, Kundaje: Not just a black box, 2016.
    """

    @property
    def name(self) -> str:
        """`input_x_gradient`."""
        return "input_x_gradient"

    def _attribute(self, probe: Probe, images: Images, targets: Targets) -> Attributed:
        return Attributed(self.reduce(self.per_channel(probe, images, targets)))

    def per_channel(self, probe: Probe, images: Images, targets: Targets) -> Images:
        """image * gradient [batch, 3, height, width]."""
        return probe.gradient(images, targets).mul_(images)

    def reduce(self, per_channel: Images) -> Attributions:
        """Sum over the channels."""
        return per_channel.sum(1)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way."""
        return 1, 1
