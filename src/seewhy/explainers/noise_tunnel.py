"""A gradient method averaged, squared or compared over noisy copies of the image: noise tunnel and SmoothGrad."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from seewhy.core.random import seed_generator
from seewhy.core.settings import Count, OneOf, UnitInterval
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, ChannelExplainer, Explainer
from seewhy.explainers.gradient import Saliency
from seewhy.models.batched import BatchedEvaluator

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

COMBINATIONS = {"mean": "smooth_grad", "mean_of_squares": "smooth_grad_sq", "variance": "var_grad"}
"""Each way to combine the copies and the name that it is published under."""


@dataclass(frozen=True, kw_only=True)
class NoiseTunnel(Explainer):
    """What becomes of a method A at image + normal noise, over several noisy copies.

    A is taken for every channel, and the combination is reduced over the channels as the method itself does (a method
    without channels, such as Grad-CAM, is combined as a map). Copies are not clipped. The memory does not depend on
    their number.

    Args:
        explainer: The method A; its probe_batch_size is not used.
        n_samples: Noisy copies of each image, from 1.
        noise: Standard deviation as a share of the value range 1, in [0, 1].
        combine: `mean`: mean of A (SmoothGrad; Smilkov et al., 2017); `mean_of_squares`: mean of A^2 (SmoothGrad squared;
            Hooker et al., NeurIPS 2019); `variance`: mean of A^2 - (mean of A)^2 (VarGrad; Adebayo et al., NeurIPS 2018).
    """

    explainer: Explainer
    n_samples: Count = 10
    noise: UnitInterval = 0.2
    combine: Annotated[str, OneOf(COMBINATIONS)] = "mean"

    @property
    def name(self) -> str:
        """`ig_smooth_grad`, `ig_smooth_grad_sq` or `ig_var_grad` over integrated gradients, else `noise_tunnel`."""
        if self.explainer.name == "integrated_gradients":
            return f"ig_{COMBINATIONS[self.combine]}"
        return "noise_tunnel"

    @property
    def parameters(self) -> str:
        """Those of the method inside, then those of the noise."""
        settings = f"({self.explainer.parameters})" if self.explainer.parameters else ""
        inside = f"{self.explainer.name}{settings}"
        return f"explainer={inside}, n_samples={self.n_samples}, noise={self.noise}, combine={self.combine}"

    def _resolve(self, classifier: Classifier, size: tuple[int, int]) -> NoiseTunnel:
        """Name what the method inside leaves to the network."""
        return replace(self, explainer=self.explainer.resolve(classifier, size))

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """As the method inside; squares and variances are never negative."""
        return self.combine == "mean" and self.explainer.signed

    @property
    def rectified(self) -> bool:  # type: ignore[override]
        """As the method inside."""
        return self.combine == "mean" and self.explainer.rectified

    @property
    def looks_inside(self) -> str:  # type: ignore[override]
        """What the method inside reads."""
        return self.explainer.looks_inside

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        noise = ImageNoise(self.seed, images, "noise")
        moments = Moments(len(images), squares=self.combine != "mean")
        for rows in evaluator.split(len(images) * self.n_samples, gradient=True):
            image = rows // self.n_samples
            copies = noise.draw(image).mul_(self.noise).add_(images[image])
            moments.add(image, rows % self.n_samples == 0, self._attribute_copies(evaluator, copies, targets[image]))
        combined = moments.combine(self.combine, self.n_samples).to(images)
        if isinstance(self.explainer, ChannelExplainer):
            return AttributionResult(self.explainer.reduce(combined))
        return AttributionResult(combined[:, 0])

    def _attribute_copies(self, evaluator: BatchedEvaluator, copies: Images, targets: Targets) -> Tensor:
        """Attributions [n, channels, height, width] of noisy copies, without a completeness check where avoidable."""
        if isinstance(self.explainer, ChannelExplainer):
            return self.explainer.attribute_channels(evaluator, copies, targets)
        return self.explainer._attribute(evaluator, copies, targets).settle().maps[:, None]

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """Those of the method for each copy, without the passes for a completeness gap.

        None where the method makes some for each batch of copies: how large that is depends on the machine.
        """
        passes = self.explainer.passes_per_image(**size)
        if passes is None or self.explainer.passes_per_call():
            return None
        forward = passes[1] if isinstance(self.explainer, ChannelExplainer) else passes[0]
        return self.n_samples * forward, self.n_samples * passes[1]


@dataclass(frozen=True, kw_only=True)
class SmoothGrad(Explainer):
    """max over channels of |mean over noisy copies of d score / d pixel|, never negative.

    Smilkov, Thorat, Kim, Viégas, Wattenberg: SmoothGrad: removing noise by adding noise, 2017.

    Args:
        n_samples: Noisy copies of each image, from 1.
        noise: Standard deviation as a share of the value range 1, in [0, 1].
        reduction: Over the channels: `max` of absolute values, or the signed `sum`.
    """

    n_samples: Count = 50
    noise: UnitInterval = 0.15
    reduction: Annotated[str, OneOf(("max", "sum"))] = "max"

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether the reduction keeps the sign."""
        return self.reduction == "sum"

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        gradient = Saliency(reduction=self.reduction)
        tunnel = NoiseTunnel(explainer=gradient, n_samples=self.n_samples, noise=self.noise, seed=self.seed)
        return tunnel._attribute(evaluator, images, targets)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way for each copy."""
        return self.n_samples, self.n_samples


class ImageNoise:
    """Standard normal noise that belongs to (seed, image): the same in whatever pieces it is drawn.

    Args:
        seed: Of the explainer.
        images: Float [batch, channels, height, width].
        stream: Name of the purpose; another name, other numbers.
    """

    def __init__(self, seed: int, images: Images, stream: str) -> None:
        self.seed, self.images, self.stream = seed, images, stream
        self._row = -1

    def draw(self, image: Tensor) -> Images:
        """Draw the next noise [n, channels, height, width] of images whose indices [n] are in ascending order."""
        drawn = torch.empty(len(image), *self.images.shape[1:], dtype=torch.float32)
        for index, row in enumerate(image.tolist()):
            if row != self._row:
                self._row, self._generator = row, seed_generator(self.seed, self.images[row], self.stream)
            torch.randn(drawn.shape[1:], generator=self._generator, out=drawn[index])
        return drawn.to(self.images)


class Moments:
    """Sums over the samples of each image, in double precision.

    Sums run over differences from an image's first sample, so that a variance far smaller than the mean is exact.

    Args:
        count: Number of images.
        squares: Whether squares are summed too.
    """

    def __init__(self, count: int, squares: bool = True) -> None:
        self.count, self.has_squares = count, squares

    def add(self, image: Tensor, is_first: Tensor, values: Tensor) -> None:
        """Add samples [n, ...] of the images with these indices [n]; `is_first` marks an image's first one."""
        if not hasattr(self, "first"):
            self.first = values.new_zeros(self.count, *values.shape[1:], dtype=torch.float64)
            self.sum = torch.zeros_like(self.first)
            self.squares = torch.zeros_like(self.first) if self.has_squares else None
        self.first[image[is_first]] = values[is_first].double()
        for item, value in zip(image.tolist(), values, strict=True):  # one after the other: each stays in the cache
            beyond = value.double().sub_(self.first[item])
            self.sum[item].add_(beyond)
            if self.squares is not None:
                self.squares[item].add_(beyond.square_())

    def combine(self, combination: str, n_samples: int) -> Tensor:
        """Compute the mean, mean of squares or variance [count, ...] of the samples of each image."""
        beyond = self.sum / n_samples
        mean = self.first + beyond
        if combination == "mean":
            return mean
        assert self.squares is not None
        variance = (self.squares / n_samples - beyond**2).clamp_min_(0)
        return variance if combination == "variance" else variance + mean**2
