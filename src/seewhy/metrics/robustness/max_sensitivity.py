"""Max-sensitivity: how much the map changes when the image hardly does."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.core.random import seed_generator
from seewhy.core.settings import Count, Share
from seewhy.metrics.base import ImageMetric, MetricContext


class MaxSensitivity(ImageMetric):
    """max over noisy images y of |map(y) - map(x)| / |map(x)|, Euclidean norms over all pixels.

    y is x plus noise, uniform in [-radius, radius] for every channel of every pixel, clipped to [0, 1]; the class stays
    the target of x. A method with random numbers of its own draws others for y, and pays for it here. From 0 without an
    upper limit, lower is better: a constant map scores a perfect 0. NaN for a map of zeros, and where a value of a map is
    not finite. UserError without the explainer.

    Yeh, Hsieh, Suggala, Inouye, Ravikumar: On the (in)fidelity and sensitivity of explanations, NeurIPS 2019.

    Args:
        n_samples: Explanations for each image.
        radius: Largest noise, as a share of the range [0, 1] of the image.

    Raises:
        UserError: If a setting is out of range.
    """

    construct = "robustness"
    higher_is_better = False

    def __init__(self, n_samples: Count = 10, radius: Share = 0.02) -> None:
        super().__init__()
        self.n_samples, self.radius = n_samples, radius

    @property
    def variant(self) -> str:
        """Noise, samples and denominator."""
        return (
            f"{self.n_samples} noisy images, uniform noise up to {self.radius:g} of the range [0, 1]; "
            "Euclidean norm of the change over that of the map"
        )

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compute the largest change; the explanations are made in batches filled across images and samples."""
        explainer = context.require_explainer(self.name)
        images, targets, maps = context.images, context.targets, context.attributions.double()
        generators = [seed_generator(context.seed, image, "max sensitivity") for image in images]
        changes = maps.new_empty(len(images) * self.n_samples)
        for samples in context.evaluator.split(len(changes), gradient=True):
            image = samples // self.n_samples
            drawn = [self._draw(images.shape[1:], generators[number]) for number in image.tolist()]
            noise = torch.stack(drawn).to(images)
            noisy_maps = explainer(context.classifier, (images[image] + noise).clamp(0, 1), targets[image])
            changes[samples] = (noisy_maps.double() - maps[image]).flatten(1).norm(dim=1)
        norms = maps.flatten(1).norm(dim=1)
        largest = changes.view(-1, self.n_samples).amax(1) / norms
        return {"score": largest.where(largest.isfinite(), torch.nan)}

    def _draw(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        return self.radius * (2 * torch.rand(shape, generator=generator, dtype=torch.float32) - 1)
