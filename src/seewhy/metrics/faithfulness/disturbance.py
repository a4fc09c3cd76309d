"""What the score loses when random pixels are disturbed, beside what the map says that it should lose."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from seewhy.core.random import seed_generator
from seewhy.core.types import Images
from seewhy.metrics.base import MetricContext

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
