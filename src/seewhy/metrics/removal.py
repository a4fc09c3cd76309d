"""What the score loses when random pixels are disturbed, beside what the map says that it should lose."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from seewhy.errors import UserError
from seewhy.explainers.baselines import BASELINES
from seewhy.image_seed import image_generator
from seewhy.metrics.evidence import Evidence
from seewhy.types import Images

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


def subset_size(share: float, pixels: int) -> int:
    """That share of the pixels as a number: at least one, and not all of them."""
    return max(1, min(pixels - 1, round(share * pixels)))


def removed_subsets(evidence: Evidence, size: int, n_samples: int, baseline: str) -> Disturbed:
    """`n_samples` random sets of `size` pixels, each replaced by the baseline in all channels."""
    height, width = evidence.images.shape[2:]

    def draw(generator: torch.Generator) -> Tensor:
        chosen = torch.zeros(height * width)
        chosen[torch.randperm(height * width, generator=generator)[:size]] = 1
        return chosen.view(height, width)

    return removed(evidence, f"subset {size}", n_samples, baseline, draw)


def removed(evidence: Evidence, stream: str, n_samples: int, baseline: str, draw: Draw) -> Disturbed:
    """Pixels replaced by the baseline where the draw is 1; made once for (stream, n_samples, baseline)."""

    def replace(image: Tensor, strength: Tensor) -> Images:
        return torch.lerp(evidence.images[image], cover[image], strength[:, None])

    def measure() -> Disturbed:
        return disturbed(evidence, stream, n_samples, draw, replace)

    cover = evidence.baseline(baseline)
    key: Hashable = ("removed", stream, n_samples, baseline)
    return evidence.once(key, measure)


def disturbed(
    evidence: Evidence,
    stream: str,
    n_samples: int,
    draw: Draw,
    apply: Callable[[Tensor, Tensor], Images],
) -> Disturbed:
    """`apply(image numbers [n], disturbances [n, height, width])` for `n_samples` draws from each image's own stream.

    The sums are NaN for a map that holds a value that is not finite.
    """
    maps, finite = evidence.finite_maps()
    maps, clean = maps.double(), evidence.scores().double()
    generators = [image_generator(evidence.seed, image, stream) for image in evidence.images]
    sums, drops = (maps.new_empty(len(maps) * n_samples) for _ in range(2))
    for probes in evidence.probe.chunks(len(sums), gradient=False):
        image = probes // n_samples
        strength = torch.stack([draw(generators[number]) for number in image.tolist()]).to(evidence.images)
        sums[probes] = (strength * maps[image]).sum((1, 2))
        scores = evidence.probe.scores(apply(image, strength), evidence.targets[image])
        drops[probes] = clean[image] - scores.double()
    undefined = sums.view(-1, n_samples).masked_fill(~finite[:, None], torch.nan)
    return Disturbed(undefined, drops.view(-1, n_samples))
