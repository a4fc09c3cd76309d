"""A control: noise that knows neither the image nor the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from seewhy.explainers.base import Attributed, Explainer
from seewhy.image_seed import image_generator
from seewhy.probe import Probe
from seewhy.types import Images, Targets


@dataclass(frozen=True, kw_only=True)
class Random(Explainer):
    """Independent standard normal values: what a method must beat to mean anything."""

    def _attribute(self, probe: Probe, images: Images, targets: Targets) -> Attributed:
        shape = images.shape[2:]
        maps = [torch.randn(shape, generator=image_generator(self.seed, image, "random")) for image in images]
        return Attributed(torch.stack(maps).to(images.device))

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """None at all."""
        return 0, 0
