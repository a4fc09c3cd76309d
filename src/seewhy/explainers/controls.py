"""A control: an edge detector that never saw the network.

A control: noise that knows neither the image nor the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional
from torchvision.transforms.v2 import functional as pictures

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.models.batched import BatchedEvaluator

LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class Edges(Explainer):
    """|gradient| of the smoothed luminance, by central differences: what an explanation must differ from.

    `sigma` is the standard deviation of the Gaussian in pixels (0: none); where None, a hundredth of the shorter side.
    Adebayo et al.: Sanity checks for saliency maps, NeurIPS 2018, use an edge detector as this control.
    """

    sigma: float | None = None
    signed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.sigma is not None and self.sigma < 0:
            raise UserError(f"explainer.sigma={self.sigma} must be 0 (no smoothing) or a number of pixels above")

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        luminance = (images * images.new_tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True)
        smooth = functional.pad(self._smoothed(luminance), (1, 1, 1, 1), mode="replicate")[:, 0]
        across = (smooth[:, 1:-1, 2:] - smooth[:, 1:-1, :-2]) / 2
        down = (smooth[:, 2:, 1:-1] - smooth[:, :-2, 1:-1]) / 2
        return AttributionResult(torch.hypot(across, down))

    def _smoothed(self, luminance: torch.Tensor) -> torch.Tensor:
        height, width = luminance.shape[2:]
        sigma = min(height, width) / 100 if self.sigma is None else self.sigma
        size = [min(2 * round(3 * sigma) + 1, 2 * ((side - 1) // 2) + 1) for side in (width, height)]
        return pictures.gaussian_blur(luminance, size, [sigma, sigma]) if max(size) > 1 else luminance

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """None at all."""
        return 0, 0


@dataclass(frozen=True, kw_only=True)
class Random(Explainer):
    """Independent standard normal values: what a method must beat to mean anything."""

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        shape = images.shape[2:]
        maps = [
            torch.randn(shape, generator=seed_generator(self.seed, image, "random"), dtype=torch.float32)
            for image in images
        ]
        return AttributionResult(torch.stack(maps).to(images.device))

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """None at all."""
        return 0, 0
