"""Deletion, insertion, MoRF and LeRF: areas under perturbation curves over all pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seewhy.core.settings import Count
from seewhy.explainers.baselines import Baseline
from seewhy.metrics.base import GAIN, PROBABILITY, ImageMetric, MetricContext, Range, Space
from seewhy.metrics.perturbation_curves import Curve, compute_target_curves


class CurveMetric(ImageMetric):
    """A metric that is read off perturbation curves.

    Args:
        baseline: What hidden pixels are replaced by, one of `explainers.baselines.BASELINES`.
        n_steps: Steps over all pixels of an image, each pixels / n_steps, rounded to whole pixels; with at least as many
            steps as pixels a step is one pixel.
        space: Score of the target, `probability` or `logit`.

    Raises:
        UserError: If a setting is none of these.
    """

    construct = "faithfulness"

    def __init__(self, baseline: Baseline = "black", n_steps: Count = 50, space: Space = "probability") -> None:
        super().__init__()
        self.baseline, self.n_steps, self.space = baseline, n_steps, space

    @property
    def settings(self) -> str:
        """The settings in words, for `variant`."""
        return f"{self.space}, {self.baseline} baseline, {self.n_steps} steps"

    def compute_areas(self, context: MetricContext, change: str, first: str) -> Tensor:
        """Compute the areas under the curves over the share of all pixels, by the trapezoidal rule.

        Args:
            context: The batch with its maps.
            change: `deletion` or `insertion`.
            first: `largest` or `smallest` attribution.

        Returns:
            float32 [batch]; NaN for maps that are not finite.
        """
        pixels = context.images[0, 0].numel()
        counts = compute_pixel_counts(pixels, self.n_steps)
        shares = torch.tensor(counts, dtype=torch.float64) / pixels
        curve = Curve(change, first, self.baseline)
        curves = compute_target_curves(context, curve, [counts] * len(context.images), self.space)
        return context.images.new_tensor([float(torch.trapezoid(values, shares)) for values in curves])


class Deletion(CurveMetric):
    """Area under f(image without its k most relevant pixels) over k / pixels, k = 0 .. pixels.

    Removed pixels become the baseline, black by default; f is the target's probability (or logit), lines
    between the steps are straight. Range 0 to 1 for probabilities; lower is better. n_steps=224 is the published 224
    pixels a step at 224 pixels. NaN where the map is not finite.

    Petsiuk, Das, Saenko: RISE, randomized input sampling for explanation of black-box models, BMVC 2018.
    """

    higher_is_better = False
    ranges: Mapping[str, Range] = {"score": PROBABILITY}

    @property
    def variant(self) -> str:
        """Score space, baseline and steps."""
        return f"area under the curve, largest first; {self.settings}"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Compute the areas, with one forward pass for each image and step."""
        return {"score": self.compute_areas(context, "deletion", "largest")}


class Insertion(CurveMetric):
    """Area under f(baseline with the k most relevant pixels of the image) over k / pixels, k = 0 .. pixels.

    The baseline is the blurred image by default (of `explainers.baselines`: Gaussian, an eighth of the shorter side; the
    paper's kernel has 5 pixels at 224); f is the target's probability (or logit), lines between the steps are
    straight. Range 0 to 1 for probabilities; higher is better. NaN where the map is not finite.

    Petsiuk, Das, Saenko: RISE, randomized input sampling for explanation of black-box models, BMVC 2018.

    Args:
        baseline: What hidden pixels are replaced by, one of `explainers.baselines.BASELINES`.
        n_steps: Steps over all pixels of an image.
        space: Score of the target, `probability` or `logit`.
    """

    higher_is_better = True
    ranges: Mapping[str, Range] = {"score": PROBABILITY}

    def __init__(self, baseline: Baseline = "blurred", n_steps: Count = 50, space: Space = "probability") -> None:
        super().__init__(baseline, n_steps, space)

    @property
    def variant(self) -> str:
        """Score space, baseline and steps."""
        return f"area under the curve, largest first; {self.settings}"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Compute the areas, with one forward pass for each image and step."""
        return {"score": self.compute_areas(context, "insertion", "largest")}


class MorfLerf(CurveMetric):
    """Area under f with the k least relevant pixels removed, less the area with the k most relevant removed.

    Both over k / pixels, k = 0 .. pixels; removed pixels become the baseline, black by default; f is the target's
    probability (or logit). Columns `morf` and `lerf` are the two areas; `morf` is deletion. Also known as the
    symmetric relevance gain (SRG). Range -1 to 1 for probabilities, 0 for an order that means nothing; higher is better.
    NaN where the map is not finite. In the mean rank of faithfulness it is a form of `deletion`, one of its two areas.

    Samek, Binder, Montavon, Lapuschkin, Mueller: Evaluating the visualization of what a deep neural network has
    learned, IEEE TNNLS 2017.
    """

    variant_of = "deletion"
    higher_is_better = True
    columns = ("morf", "lerf")
    ranges: Mapping[str, Range] = {"score": GAIN, "morf": PROBABILITY, "lerf": PROBABILITY}

    @property
    def variant(self) -> str:
        """Score space, baseline and steps."""
        return f"area of LeRF less area of MoRF; {self.settings}"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Compute the areas, with two forward passes for each image and step; those of `deletion` are shared."""
        morf, lerf = (self.compute_areas(context, "deletion", first) for first in ("largest", "smallest"))
        return {"score": lerf - morf, "morf": morf, "lerf": lerf}


def compute_pixel_counts(pixels: int, n_steps: int) -> list[int]:
    """Divide the pixels into steps: round(i pixels / n_steps) for i = 0 .. n_steps.

    The counts are symmetric (pixels - k is one where k is), so that insertion and reversed deletion share passes.

    Args:
        pixels: Of one image.
        n_steps: From 1; with at least as many steps as pixels every count is there.

    Returns:
        Ascending, from 0 to `pixels`.
    """
    steps = max(1, min(n_steps, pixels))
    lower = [(2 * index * pixels + steps) // (2 * steps) for index in range(steps // 2 + 1)]
    return sorted({*lower, *(pixels - count for count in lower)})


def join_rows(context: MetricContext, rows: Sequence[Mapping[str, float]]) -> dict[str, Tensor]:
    """Join one mapping per image into a tensor [batch] per column."""
    return {column: context.images.new_tensor([row[column] for row in rows]) for column in rows[0]}
