"""Faithfulness correlation: whether pixels that add up to more also cost the score more.

What the score loses when random pixels are disturbed, beside what the map says that it should lose.
Sensitivity-n: the faithfulness of the map's sums, over small and large parts of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.types import Images
from seewhy.explainers.baselines import BASELINES
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.similarity import compute_pearson

Draw = Callable[[torch.Generator], Tensor]
"""One disturbance [height, width] of an image, common to its channels."""


class Disturbed(NamedTuple):
    """float64 [batch, samples] each: sum over pixels of disturbance * attribution, and f(x) - f(disturbed x)."""

    sums: Tensor
    drops: Tensor


def check_samples(metric: str, n_samples: int, least: int = 1) -> None:
    """UserError where `n_samples` is no whole number from `least`."""
    if not isinstance(n_samples, int) or n_samples < least:
        raise UserError(f"metric.{metric}.n_samples={n_samples} must be a whole number from {least}")


def check_removal_baseline(metric: str, baseline: str) -> None:
    """UserError that lists the names where `baseline` is none of them."""
    if baseline not in BASELINES:
        raise UserError(f"metric.{metric}.baseline={baseline!r} is none of {', '.join(BASELINES)}")


def count_removed_pixels(share: float, pixels: int) -> int:
    """That share of the pixels as a number: at least one, and not all of them."""
    return max(1, min(pixels - 1, round(share * pixels)))


def removed_subsets(context: MetricContext, size: int, n_samples: int, baseline: str) -> Disturbed:
    """`n_samples` random sets of `size` pixels, each replaced by the baseline in all channels."""
    height, width = context.images.shape[2:]

    def draw(generator: torch.Generator) -> Tensor:
        chosen = torch.zeros(height * width)
        chosen[torch.randperm(height * width, generator=generator)[:size]] = 1
        return chosen.view(height, width)

    return removed(context, f"subset {size}", n_samples, baseline, draw)


def removed(context: MetricContext, stream: str, n_samples: int, baseline: str, draw: Draw) -> Disturbed:
    """Pixels replaced by the baseline where the draw is 1; made once for (stream, n_samples, baseline)."""

    def replace(image: Tensor, strength: Tensor) -> Images:
        return torch.lerp(context.images[image], cover[image], strength[:, None])

    def measure() -> Disturbed:
        return disturbed(context, stream, n_samples, draw, replace)

    cover = context.build_baseline(baseline)
    key: Hashable = ("removed", stream, n_samples, baseline)
    return context.compute_once(key, measure)


def disturbed(
    context: MetricContext,
    stream: str,
    n_samples: int,
    draw: Draw,
    apply: Callable[[Tensor, Tensor], Images],
) -> Disturbed:
    """`apply(image numbers [n], disturbances [n, height, width])` for `n_samples` draws from each image's own stream.

    The sums are NaN for a map that holds a value that is not finite.
    """
    maps, finite = context.replace_non_finite()
    maps, clean = maps.double(), context.compute_scores().double()
    generators = [seed_generator(context.seed, image, stream) for image in context.images]
    sums, drops = (maps.new_empty(len(maps) * n_samples) for _ in range(2))
    for probes in context.evaluator.split(len(sums), gradient=False):
        image = probes // n_samples
        strength = torch.stack([draw(generators[number]) for number in image.tolist()]).to(context.images)
        sums[probes] = (strength * maps[image]).sum((1, 2))
        scores = context.evaluator.compute_scores(apply(image, strength), context.targets[image])
        drops[probes] = clean[image] - scores.double()
    undefined = sums.view(-1, n_samples).masked_fill(~finite[:, None], torch.nan)
    return Disturbed(undefined, drops.view(-1, n_samples))


class FaithfulnessCorrelation(ImageMetric):
    """Pearson's correlation over random sets S of sum over S of the map and f(x) - f(x with S at the baseline).

    `n_samples` sets of the same size, `share` of the pixels; f is the target's logit; a pixel is removed in all channels.
    From -1 to 1, higher is better. NaN where the sums or the drops do not vary (a constant map, a score that does not
    depend on the image) and where a value of the map is not finite.
    Bhatt, Weller, Moura: Evaluating and aggregating feature-based model explanations, IJCAI 2020.
    """

    higher_is_better = True

    def __init__(self, n_samples: int = 100, share: float = 0.1, baseline: str = "black") -> None:
        super().__init__()
        check_samples("faithfulness_correlation", n_samples, least=2)
        check_removal_baseline("faithfulness_correlation", baseline)
        if not 0 < share < 1:
            raise UserError(f"metric.faithfulness_correlation.share={share} must be between 0 and 1, such as 0.1")
        self.n_samples, self.share, self.baseline = n_samples, share, baseline

    @property
    def variant(self) -> str:
        """Sets, samples, baseline and score space."""
        return (
            f"Pearson over {self.n_samples} random sets of {100 * self.share:g} % of the pixels; "
            f"removed: {self.baseline}; score: logit"
        )

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """`n_samples` forward passes for each image, shared with `sensitivity_n` where it has the same share."""
        size = count_removed_pixels(self.share, context.attributions[0].numel())
        found = removed_subsets(context, size, self.n_samples, self.baseline)
        return {"score": compute_pearson(found.sums, found.drops)}


SHARES = (0.01, 0.03, 0.1, 0.3, 0.8)


class SensitivityN(ImageMetric):
    """Mean over n of Pearson's correlation of sum over S of the map and f(x) - f(x with S at the baseline), |S| = n.

    For each n, one of the `shares` of the pixels, `n_samples` random sets S; f is the target's logit; a pixel is removed in
    all channels. From -1 to 1, higher is better; 1 for every n means that the map adds up as the network does. Sizes
    at which the drops do not vary are left out; NaN where that is all of them, for a constant map, and where a value
    of the map is not finite.
    Ancona, Ceolini, Öztireli, Gross: Towards better understanding of gradient-based attribution methods for deep neural
    networks, ICLR 2018.
    """

    higher_is_better = True

    def __init__(self, n_samples: int = 100, shares: Sequence[float] = SHARES, baseline: str = "black") -> None:
        super().__init__()
        check_samples("sensitivity_n", n_samples, least=2)
        check_removal_baseline("sensitivity_n", baseline)
        if not shares or not all(0 < share < 1 for share in shares):
            raise UserError(f"metric.sensitivity_n.shares={list(shares)} must be between 0 and 1, such as [0.1, 0.5]")
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
        """`n_samples` forward passes for each image and size."""
        pixels = context.attributions[0].numel()
        sizes = sorted({count_removed_pixels(share, pixels) for share in self.shares})
        subsets = [removed_subsets(context, size, self.n_samples, self.baseline) for size in sizes]
        return {"score": torch.stack([compute_pearson(found.sums, found.drops) for found in subsets]).nanmean(0)}
