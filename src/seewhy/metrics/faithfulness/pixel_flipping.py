"""What the metrics that read perturbation curves share: their settings and their curves over all pixels.

Deletion: how fast the score falls when the most relevant pixels are removed first.
Insertion: how fast the score rises when the most relevant pixels are shown first.
MoRF and LeRF: what the order of a map is worth, as the area between its curve and the reversed one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.explainers.baselines import BASELINES
from seewhy.metrics.base import SPACES, ImageMetric, MetricContext
from seewhy.metrics.perturbation_curves import Curve, compute_target_curves


class CurveMetric(ImageMetric):
    """`baseline` stands for pixels that are not seen; `n_steps` divide all pixels of an image; `space` of the score.

    A step is pixels / n_steps, rounded to whole pixels; with at least as many steps as pixels it is one pixel.
    """

    def __init__(self, baseline: str = "black", n_steps: int = 50, space: str = "probability") -> None:
        super().__init__()
        key = f"metric.{self.name}"
        if baseline not in BASELINES:
            raise UserError(f"{key}.baseline={baseline!r} is none of {', '.join(BASELINES)}")
        if not isinstance(n_steps, int) or n_steps < 1:
            raise UserError(f"{key}.n_steps={n_steps} must be a whole number from 1, such as 50")
        if space not in SPACES:
            raise UserError(f"{key}.space={space!r} must be {' or '.join(SPACES)}")
        self.baseline = baseline
        self.n_steps = n_steps
        self.space = space

    @property
    def settings(self) -> str:
        """The settings in words, for `variant`."""
        return f"{self.space}, {self.baseline} baseline, {self.n_steps} steps"

    def areas(self, context: MetricContext, change: str, first: str) -> Tensor:
        """Area under the curve over the share of all pixels, [batch]; NaN for maps that are not finite."""
        pixels = context.images[0, 0].numel()
        counts = compute_pixel_counts(pixels, self.n_steps)
        shares = torch.tensor(counts, dtype=torch.float64) / pixels
        curve = Curve(change, first, self.baseline)
        curves = compute_target_curves(context, curve, [counts] * len(context.images), self.space)
        return context.images.new_tensor([compute_area(shares, values) for values in curves])


def columns_of(context: MetricContext, rows: Sequence[Mapping[str, float]]) -> dict[str, Tensor]:
    """One tensor [batch] per column out of one mapping per image."""
    return {column: context.images.new_tensor([row[column] for row in rows]) for column in rows[0]}


class Deletion(CurveMetric):
    """Area under f(image without its k most relevant pixels) over k / pixels, k = 0 .. pixels.

    Removed pixels become the baseline, black by default; f is the target's softmax probability (or logit), lines
    between the steps are straight. Lower is better; range [0, 1] for probabilities. n_steps=224 is the published 224
    pixels a step at 224 pixels. NaN where the map is not finite.
    Petsiuk, Das, Saenko: RISE, randomized input sampling for explanation of black-box models, BMVC 2018.
    """

    higher_is_better = False

    @property
    def variant(self) -> str:
        """Score space, baseline and steps."""
        return f"area under the curve, largest first; {self.settings}"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """The areas [batch]."""
        return {"score": self.areas(context, "deletion", "largest")}


class Insertion(CurveMetric):
    """Area under f(baseline with the k most relevant pixels of the image) over k / pixels, k = 0 .. pixels.

    The baseline is the blurred image by default (of `explainers.baselines`: Gaussian, an eighth of the shorter side; the
    paper's kernel has 5 pixels at 224); f is the target's softmax probability (or logit), lines between the steps are
    straight. Higher is better; range [0, 1] for probabilities. NaN where the map is not finite.
    Petsiuk, Das, Saenko: RISE, randomized input sampling for explanation of black-box models, BMVC 2018.
    """

    higher_is_better = True

    def __init__(self, baseline: str = "blurred", n_steps: int = 50, space: str = "probability") -> None:
        super().__init__(baseline, n_steps, space)

    @property
    def variant(self) -> str:
        """Score space, baseline and steps."""
        return f"area under the curve, largest first; {self.settings}"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """The areas [batch]."""
        return {"score": self.areas(context, "insertion", "largest")}


class MorfLerf(CurveMetric):
    """Area under f with the k least relevant pixels removed, less the area with the k most relevant removed.

    Both over k / pixels, k = 0 .. pixels; removed pixels become the baseline, black by default; f is the target's
    softmax probability (or logit). Columns `morf` and `lerf` are the two areas; `morf` is deletion. Higher is better;
    range [-1, 1] for probabilities, 0 for an order that means nothing. NaN where the map is not finite.
    Samek, Binder, Montavon, Lapuschkin, Mueller: Evaluating the visualization of what a deep neural network has
    learned, IEEE TNNLS 2017.
    """

    higher_is_better = True
    columns: ClassVar[tuple[str, ...]] = ("morf", "lerf")

    @property
    def variant(self) -> str:
        """Score space, baseline and steps."""
        return f"area of LeRF less area of MoRF; {self.settings}"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """The areas [batch]."""
        morf, lerf = (self.areas(context, "deletion", first) for first in ("largest", "smallest"))
        return {"score": lerf - morf, "morf": morf, "lerf": lerf}


def compute_pixel_counts(pixels: int, n_steps: int) -> list[int]:
    """round(i pixels / n_steps) for i = 0 .. n_steps, and every count where there are fewer pixels than steps.

    The counts are symmetric (pixels - k is one where k is), so that insertion and reversed deletion share passes.
    """
    steps = max(1, min(n_steps, pixels))
    lower = [(2 * index * pixels + steps) // (2 * steps) for index in range(steps // 2 + 1)]
    return sorted({*lower, *(pixels - count for count in lower)})


def compute_area(shares: Tensor, values: Tensor) -> float:
    """The area under straight lines through the points (trapezoidal rule)."""
    return float(torch.trapezoid(values, shares))
