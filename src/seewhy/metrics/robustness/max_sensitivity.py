"""Max-sensitivity: how much the map changes when the image hardly does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from seewhy.core.random import seed_generator
from seewhy.core.settings import Count, Share
from seewhy.core.types import Attributions, Images
from seewhy.metrics.base import AMOUNT, ImageMetric, MetricContext, Range


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
        passes: Most passes of a run for these explanations: a dearer method is measured on fewer images, spread evenly over
            the data and at least ten; null: on all.

    Raises:
        UserError: If a setting is out of range.
    """

    construct = "robustness"
    higher_is_better = False
    ranges: Mapping[str, Range] = {"score": AMOUNT}

    def __init__(self, n_samples: Count = 10, radius: Share = 0.02, passes: Count | None = None) -> None:
        super().__init__()
        self.n_samples, self.radius = n_samples, radius
        self.explanations, self.passes = n_samples, passes

    @property
    def variant(self) -> str:
        """Noise, samples and denominator."""
        return (
            f"{self.n_samples} noisy images, uniform noise up to {self.radius:g} of the range [0, 1]; "
            "Euclidean norm of the change over that of the map"
        )

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compute the largest change; the explanations are made in batches filled across images and samples."""
        maps = context.attributions.double()
        noisy = explain_noisy_images(context, self.name, self.n_samples, self.radius)
        changes = (noisy.double() - maps[:, None]).flatten(2).norm(dim=2)
        largest = changes.amax(1) / maps.flatten(1).norm(dim=1)
        return {"score": largest.where(largest.isfinite(), torch.nan)}


def explain_noisy_images(context: MetricContext, metric: str, n_samples: int, radius: float) -> Attributions:
    """Explain noisy copies of the images, once for all metrics with the same settings.

    Args:
        context: The batch.
        metric: What needs the explainer, for the message without.
        n_samples: Copies of each image.
        radius: Largest noise, as a share of the range [0, 1].

    Returns:
        The maps [batch, samples, height, width], in the precision of the explainer.
    """
    explainer = context.require_explainer(metric)

    def explain() -> Attributions:
        parts = [
            explainer(context.classifier, noisy, context.targets[image])
            for _, image, noisy in iterate_noisy_images(context, n_samples, radius, gradient=True)
        ]
        return torch.cat(parts).unflatten(0, (-1, n_samples))

    return context.compute_once(("maps of noisy images", n_samples, radius), explain)


def iterate_noisy_images(
    context: MetricContext, n_samples: int, radius: float, gradient: bool = False
) -> Iterator[tuple[Tensor, Tensor, Images]]:
    """Draw noisy copies of the images, filled across images and samples; the noise belongs to each image.

    Args:
        context: The batch.
        n_samples: Copies of each image.
        radius: Largest noise, uniform, as a share of the range [0, 1]; copies are clipped to it.
        gradient: Whether they go through the network with gradients.

    Yields:
        (positions among all copies [n], the image of each [n], the copies [n, channels, height, width]).
    """
    images = context.images
    generators = [seed_generator(context.seed, image, "max sensitivity") for image in images]
    for samples in context.evaluator.split(len(images) * n_samples, gradient=gradient):
        image = samples // n_samples
        drawn = [
            radius * (2 * torch.rand(images.shape[1:], generator=generators[number], dtype=torch.float32) - 1)
            for number in image.tolist()
        ]
        yield samples, image, (images[image] + torch.stack(drawn).to(images)).clamp(0, 1)
