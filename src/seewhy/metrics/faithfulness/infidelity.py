"""Infidelity: how wrong the map is about what a disturbance of the image costs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Images
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.faithfulness.removal_correlation import (
    Disturbed,
    check_removal_baseline,
    check_samples,
    disturbed,
    removed,
)

PERTURBATIONS = ("square", "noise")


class Infidelity(ImageMetric):
    """Mean over random disturbances I of (I . map - (f(x) - f(x disturbed by I)))^2, f the target's logit.

    `perturbation=square`: a square of random place and side, up to `size` of the shorter side, is set to the baseline;
    I is 1 inside and 0 outside, which suits maps whose values are shares of the score. `noise`: x - I, not clipped, with
    normal I of standard deviation `size`, the same in all channels; suits maps that are gradients (summed over channels).

    `normalised=true` multiplies the map by the one number that makes the mean smallest, so that only its shape counts:
    mean(I . map * drop) / mean((I . map)^2). From 0 without an upper limit, in squared logits; lower is better. A map
    of zeros scores the mean squared drop. NaN where a value of the map is not finite.
    Yeh, Hsieh, Suggala, Inouye, Ravikumar: On the (in)fidelity and sensitivity of explanations, NeurIPS 2019.
    """

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
        check_samples("infidelity", n_samples)
        check_removal_baseline("infidelity", baseline)
        if perturbation not in PERTURBATIONS:
            raise UserError(f"metric.infidelity.perturbation={perturbation!r} is none of {', '.join(PERTURBATIONS)}")
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
        """`n_samples` forward passes for each image, shared by the plain and the normalised form."""
        found = self._squares(context) if self.perturbation == "square" else self._noise(context)
        said = found.sums
        if self.normalised:
            power = said.square().mean(1, keepdim=True)
            said = said * (said * found.drops).mean(1, keepdim=True) / power.where(power != 0, 1)
        return {"score": (said - found.drops).square().mean(1)}

    def _squares(self, context: MetricContext) -> Disturbed:
        height, width = context.images.shape[2:]
        largest = max(1, int(self.size * min(height, width)))

        def draw(generator: torch.Generator) -> Tensor:
            side, top, left = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
            pixels = 1 + int(side * largest)
            row, column = int(top * (height - pixels + 1)), int(left * (width - pixels + 1))
            inside = torch.zeros(height, width)
            inside[row : row + pixels, column : column + pixels] = 1
            return inside

        return removed(context, f"square {largest}", self.n_samples, self.baseline, draw)

    def _noise(self, context: MetricContext) -> Disturbed:
        shape = context.images.shape[2:]

        def draw(generator: torch.Generator) -> Tensor:
            return self.size * torch.randn(shape, generator=generator, dtype=torch.float32)

        def subtract(image: Tensor, strength: Tensor) -> Images:
            return context.images[image] - strength[:, None]

        return context.compute_once(
            ("noise", self.size, self.n_samples),
            lambda: disturbed(context, "infidelity noise", self.n_samples, draw, subtract),
        )
