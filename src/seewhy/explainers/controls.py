"""Controls: noise, an edge detector and the middle of the image. None knows the network; an explanation must beat all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2.functional import gaussian_blur

from seewhy.core.facts import select_display
from seewhy.core.random import seed_generator
from seewhy.core.settings import NonNegative, Positive
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.models.batched import BatchedEvaluator

LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class Edges(Explainer):
    """|gradient| of the smoothed luminance, by central differences; of an image of other channels, as it is shown.

    Adebayo et al.: Sanity checks for saliency maps, NeurIPS 2018, use an edge detector as this control.

    Args:
        sigma: Standard deviation in pixels of the Gaussian that smooths; 0: none; None: a hundredth of the shorter side.
    """

    sigma: NonNegative | None = None

    signed: ClassVar[bool] = False
    passes: ClassVar[tuple[int, int] | None] = (0, 0)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        images = select_display(images, evaluator.classifier.facts.display)
        luminance = (images * images.new_tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True)
        smooth = functional.pad(self._smooth(luminance), (1, 1, 1, 1), mode="replicate")[:, 0]
        across = (smooth[:, 1:-1, 2:] - smooth[:, 1:-1, :-2]) / 2
        down = (smooth[:, 2:, 1:-1] - smooth[:, :-2, 1:-1]) / 2
        return AttributionResult(torch.hypot(across, down))

    def _smooth(self, luminance: Tensor) -> Tensor:
        height, width = luminance.shape[2:]
        sigma = min(height, width) / 100 if self.sigma is None else self.sigma
        size = [min(2 * round(3 * sigma) + 1, 2 * ((side - 1) // 2) + 1) for side in (width, height)]
        return gaussian_blur(luminance, size, [sigma, sigma]) if max(size) > 1 else luminance


@dataclass(frozen=True, kw_only=True)
class Centre(Explainer):
    """A Gaussian at the middle of the image, exp(-((y - y0)^2 + (x - x0)^2) / (2 sigma^2)).

    Photographers put what they photograph in the middle: a map that says nothing else points at the object more often than
    chance. The middle is (height - 1) / 2, (width - 1) / 2, between pixels where a side is even.

    Zhang et al.: Top-down neural attention by excitation backprop, ECCV 2016, have this control, Center, in their pointing
    game.

    Args:
        sigma: Standard deviation in pixels; None: a quarter of the shorter side.
    """

    sigma: Positive | None = None

    signed: ClassVar[bool] = False
    passes: ClassVar[tuple[int, int] | None] = (0, 0)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        height, width = images.shape[2:]
        sigma = min(height, width) / 4 if self.sigma is None else self.sigma
        down, across = ((torch.arange(side, dtype=torch.float64) - (side - 1) / 2) / sigma for side in (height, width))
        values = torch.exp(-(down[:, None].square() + across.square()) / 2)
        return AttributionResult(values.to(images).repeat(len(images), 1, 1))


@dataclass(frozen=True, kw_only=True)
class Random(Explainer):
    """Independent standard normal values: what a method must beat to mean anything."""

    passes: ClassVar[tuple[int, int] | None] = (0, 0)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        generators = [seed_generator(self.seed, image, "random") for image in images]
        maps = [torch.randn(images.shape[2:], generator=each, dtype=torch.float32) for each in generators]
        return AttributionResult(torch.stack(maps).to(images.device))
