"""Infidelity: how wrong the map is about what a disturbance of the image costs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.core.errors import UserError, check_choice
from seewhy.core.types import Images
from seewhy.explainers.baselines import BASELINES
from seewhy.metrics.base import ImageMetric, MetricContext, check_count
from seewhy.metrics.faithfulness.disturbance import Disturbances, disturb, remove_pixels

PERTURBATIONS = ("square", "noise")


class Infidelity(ImageMetric):
    """Mean over random disturbances I of (I . map - (f(x) - f(x disturbed by I)))^2, f the target's logit.

    From 0 without an upper limit, in squared logits; lower is better. A map of zeros scores the mean squared drop. NaN
    where a value of the map is not finite. The normalised form multiplies the map by the one number that makes the mean
    smallest, mean(I . map * drop) / mean((I . map)^2), so that only its shape counts.

    Yeh, Hsieh, Suggala, Inouye, Ravikumar: On the (in)fidelity and sensitivity of explanations, NeurIPS 2019.

    Args:
        perturbation: `square`: a square of random place and side is set to the baseline; I is 1 inside and 0 outside,
            which suits maps whose values are shares of the score. `noise`: x - I, not clipped, with normal I, the same in
            all channels; suits maps that are gradients (summed over channels).
        size: Largest side as a share of the shorter side of the image, or the standard deviation of the noise; above 0
            and at most 1.
        n_samples: Disturbances for each image.
        baseline: What squares are replaced by, one of `explainers.baselines.BASELINES`.
        normalised: Whether the map is scaled to fit best.

    Raises:
        UserError: If a setting is none of these.
    """

    construct = "faithfulness"
    higher_is_better = False

    def __init__(
        self,
        perturbation: str = "square",
        size: float = 0.3,
        n_samples: int = 100,
        baseline: str = "black",
        normalised: bool = False,
    ) -> None:
        super().__init__()
        check_count("metric.infidelity.n_samples", n_samples)
        check_choice("metric.infidelity.baseline", baseline, BASELINES)
        check_choice("metric.infidelity.perturbation", perturbation, PERTURBATIONS)
        if not 0 < size <= 1:
            raise UserError(f"metric.infidelity.size={size} must be above 0 and at most 1, such as 0.3")
        self.perturbation, self.size, self.n_samples = perturbation, size, n_samples
        self.baseline, self.normalised = baseline, normalised

    @property
    def name(self) -> str:
        """`infidelity`, followed by what differs from the plain form."""
        noise = "_noise" if self.perturbation == "noise" else ""
        return f"infidelity{noise}{'_normalised' if self.normalised else ''}"

    @property
    def variant(self) -> str:
        """Perturbation, samples, baseline, score space and scaling."""
        square = f"squares up to {100 * self.size:g} % of the shorter side, removed: {self.baseline}"
        noise = f"normal noise of standard deviation {self.size:g} common to the channels"
        scaled = "map scaled to fit best" if self.normalised else "map as it is"
        return f"{self.n_samples} {square if self.perturbation == 'square' else noise}; score: logit; {scaled}"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Average the squared errors, with `n_samples` passes for each image, shared by plain and normalised form."""
        sums, drops = self._remove_squares(context) if self.perturbation == "square" else self._add_noise(context)
        if self.normalised:
            power = sums.square().mean(1, keepdim=True)
            sums = sums * (sums * drops).mean(1, keepdim=True) / power.where(power != 0, 1)
        return {"score": (sums - drops).square().mean(1)}

    def _remove_squares(self, context: MetricContext) -> Disturbances:
        height, width = context.images.shape[2:]
        largest = max(1, int(self.size * min(height, width)))

        def draw(generator: torch.Generator) -> Tensor:
            side, top, left = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
            pixels = 1 + int(side * largest)
            row, column = int(top * (height - pixels + 1)), int(left * (width - pixels + 1))
            inside = torch.zeros(height, width)
            inside[row : row + pixels, column : column + pixels] = 1
            return inside

        return remove_pixels(context, f"square {largest}", self.n_samples, self.baseline, draw)

    def _add_noise(self, context: MetricContext) -> Disturbances:
        shape = context.images.shape[2:]

        def draw(generator: torch.Generator) -> Tensor:
            return self.size * torch.randn(shape, generator=generator, dtype=torch.float32)

        def subtract(image: Tensor, strength: Tensor) -> Images:
            return context.images[image] - strength[:, None]

        return context.compute_once(
            ("noise", self.size, self.n_samples),
            lambda: disturb(context, "infidelity noise", self.n_samples, draw, subtract),
        )
