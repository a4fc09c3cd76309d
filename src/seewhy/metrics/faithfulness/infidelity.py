"""What a random disturbance costs: infidelity, faithfulness correlation and sensitivity-n."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Annotated, NamedTuple, TypeAlias

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.settings import Count, CountFrom2, OneOf, Share
from seewhy.core.tensors import compute_pearson
from seewhy.core.types import Images
from seewhy.explainers.baselines import Baseline
from seewhy.metrics.base import AMOUNT, CORRELATION, ImageMetric, MetricContext, Range, Shares

Draw: TypeAlias = Callable[[torch.Generator], Tensor]
"""Draws one disturbance [height, width] of an image, common to its channels."""


class Disturbances(NamedTuple):
    """Random disturbances of each image, float64 [batch, samples] each."""

    sums: Tensor
    """Sum over the pixels of disturbance * attribution; NaN for a map that is not finite."""
    drops: Tensor
    """f(x) - f(disturbed x), f the target's logit."""


def remove_subsets(context: MetricContext, size: int, n_samples: int, baseline: str) -> Disturbances:
    """Replace random sets of pixels by the baseline in all channels, and measure what the score loses.

    Args:
        context: The batch with its maps.
        size: Pixels of each set.
        n_samples: Sets for each image.
        baseline: One of `explainers.baselines.BASELINES`.

    Returns:
        The disturbances are 1 in the set and 0 outside.
    """
    height, width = context.images.shape[2:]

    def draw(generator: torch.Generator) -> Tensor:
        subset = torch.zeros(height * width)
        subset[torch.randperm(height * width, generator=generator)[:size]] = 1
        return subset.view(height, width)

    return remove_pixels(context, f"subset {size}", n_samples, baseline, draw)


def remove_pixels(context: MetricContext, stream: str, n_samples: int, baseline: str, draw: Draw) -> Disturbances:
    """Replace pixels by the baseline where the draw is 1, and measure what the score loses.

    Args:
        context: The batch with its maps.
        stream: Names the draws; with `n_samples` and `baseline` it names the result, which is computed once.
        n_samples: Draws for each image.
        baseline: One of `explainers.baselines.BASELINES`.
        draw: Draws a mask of zeros and ones.

    Returns:
        The disturbances are the draws.
    """

    def replace(image: Tensor, strength: Tensor) -> Images:
        return torch.lerp(context.images[image], cover[image], strength[:, None])

    cover = context.build_baseline(baseline)
    key: Hashable = ("removed", stream, n_samples, baseline)
    return context.compute_once(key, lambda: disturb(context, stream, n_samples, draw, replace))


def disturb(
    context: MetricContext,
    stream: str,
    n_samples: int,
    draw: Draw,
    apply: Callable[[Tensor, Tensor], Images],
) -> Disturbances:
    """Disturb each image `n_samples` times, with one forward pass each, and measure what the score loses.

    Args:
        context: The batch with its maps.
        stream: Names the random numbers, which belong to each image.
        n_samples: Draws for each image.
        draw: Draws a disturbance.
        apply: Disturbs the images of rows [n] by disturbances [n, height, width].

    Returns:
        What each disturbance sums up in the map, and what it costs the score.
    """
    maps, finite = context.replace_non_finite()
    maps, clean = maps.double(), context.compute_scores().double()
    generators = [seed_generator(context.seed, image, stream) for image in context.images]
    sums, drops = (maps.new_empty(len(maps) * n_samples) for _ in range(2))
    for samples in context.evaluator.split(len(sums), gradient=False):
        image = samples // n_samples
        strength = torch.stack([draw(generators[number]) for number in image.tolist()]).to(context.images)
        sums[samples] = (strength * maps[image]).sum((1, 2))
        scores = context.evaluator.compute_scores(apply(image, strength), context.targets[image])
        drops[samples] = clean[image] - scores.double()
    undefined = sums.view(-1, n_samples).masked_fill(~finite[:, None], torch.nan)
    return Disturbances(undefined, drops.view(-1, n_samples))


PERTURBATIONS = ("square", "noise")


class Infidelity(ImageMetric):
    """Mean over random disturbances I of (I . map - (f(x) - f(x disturbed by I)))^2, f the target's logit.

    From 0 without an upper limit, in squared logits; lower is better. A map of zeros scores the mean squared drop. NaN
    where a value of the map is not finite. The normalised form multiplies the map by the one number that makes the mean
    smallest, mean(I . map * drop) / mean((I . map)^2), so that only its shape counts. Only the normalised form is in
    the mean rank of faithfulness: the plain one orders methods by the units of their maps.

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
    variant_of = "infidelity_normalised"
    higher_is_better = False
    ranges: Mapping[str, Range] = {"score": AMOUNT}

    def __init__(
        self,
        perturbation: Annotated[str, OneOf(PERTURBATIONS)] = "square",
        size: Share = 0.3,
        n_samples: Count = 100,
        baseline: Baseline = "black",
        normalised: bool = False,
    ) -> None:
        super().__init__()
        if perturbation == "noise" and baseline != "black":
            raise UserError(
                f"metric.infidelity.baseline={baseline} is not read with perturbation=noise: leave it at black"
            )
        self.perturbation, self.size, self.n_samples = perturbation, size, n_samples
        self.baseline, self.normalised = baseline, normalised
        self.in_mean_rank = normalised

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


SHARES = (0.01, 0.03, 0.1, 0.3, 0.8)
"""Default sizes of the sets of `SensitivityN`."""


class FaithfulnessCorrelation(ImageMetric):
    """Pearson's correlation over random sets S of sum over S of the map and f(x) - f(x with S at the baseline).

    All sets have the same size; f is the target's logit; a pixel is removed in all channels. Range -1 to 1, higher is
    better. NaN where the sums or the drops do not vary (a constant map, a score that does not depend on the image) and
    where a value of the map is not finite. In the mean rank of faithfulness it is a form of `sensitivity_n`, which has
    several sizes.

    Bhatt, Weller, Moura: Evaluating and aggregating feature-based model explanations, IJCAI 2020.

    Args:
        n_samples: Sets for each image, from 2.
        share: Of the pixels in each set, between 0 and 1.
        baseline: What removed pixels are replaced by, one of `explainers.baselines.BASELINES`.

    Raises:
        UserError: If a setting is none of these.
    """

    construct = "faithfulness"
    variant_of = "sensitivity_n"
    higher_is_better = True
    ranges: Mapping[str, Range] = {"score": CORRELATION}

    def __init__(
        self, n_samples: CountFrom2 = 100, share: Annotated[float, Gt(0), Lt(1)] = 0.1, baseline: Baseline = "black"
    ) -> None:
        super().__init__()
        self.n_samples, self.share, self.baseline = n_samples, share, baseline

    @property
    def variant(self) -> str:
        """Sets, samples, baseline and score space."""
        return (
            f"Pearson over {self.n_samples} random sets of {100 * self.share:g} % of the pixels; "
            f"removed: {self.baseline}; score: logit"
        )

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Correlate, with `n_samples` passes for each image, shared with `sensitivity_n` where it has the same share."""
        size = count_removed_pixels(self.share, context.attributions[0].numel())
        subsets = remove_subsets(context, size, self.n_samples, self.baseline)
        return {"score": compute_pearson(subsets.sums, subsets.drops)}


class SensitivityN(ImageMetric):
    """Mean over n of Pearson's correlation of sum over S of the map and f(x) - f(x with S at the baseline), |S| = n.

    For each n there are `n_samples` random sets S; f is the target's logit; a pixel is removed in all channels. Range -1
    to 1, higher is better; 1 for every n means that the map adds up as the network does. Sizes at which the drops do not
    vary are left out; NaN where that is all of them, for a constant map, and where a value of the map is not finite.

    Ancona, Ceolini, Öztireli, Gross: Towards better understanding of gradient-based attribution methods for deep neural
    networks, ICLR 2018.

    Args:
        n_samples: Sets for each image and size, from 2.
        shares: The sizes n as shares of the pixels, each between 0 and 1.
        baseline: What removed pixels are replaced by, one of `explainers.baselines.BASELINES`.

    Raises:
        UserError: If a setting is none of these.
    """

    construct = "faithfulness"
    higher_is_better = True
    ranges: Mapping[str, Range] = {"score": CORRELATION}

    def __init__(self, n_samples: CountFrom2 = 100, shares: Shares = SHARES, baseline: Baseline = "black") -> None:
        super().__init__()
        self.n_samples, self.shares, self.baseline = n_samples, tuple(shares), baseline

    @property
    def variant(self) -> str:
        """Sizes, samples, baseline and score space."""
        sizes = ", ".join(f"{100 * share:g}" for share in self.shares)
        return (
            f"mean Pearson over n = {sizes} % of the pixels, {self.n_samples} random sets each; "
            f"removed: {self.baseline}; score: logit"
        )

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Average the correlations, with `n_samples` forward passes for each image and size."""
        pixels = context.attributions[0].numel()
        sizes = sorted({count_removed_pixels(share, pixels) for share in self.shares})
        subsets = [remove_subsets(context, size, self.n_samples, self.baseline) for size in sizes]
        return {"score": torch.stack([compute_pearson(each.sums, each.drops) for each in subsets]).nanmean(0)}


def count_removed_pixels(share: float, pixels: int) -> int:
    """Count the pixels of a set.

    Args:
        share: Of all pixels.
        pixels: Of the image.

    Returns:
        That share, rounded; at least one and not all.
    """
    return max(1, min(pixels - 1, round(share * pixels)))
