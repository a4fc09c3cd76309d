"""Whether two networks answer images for the same reasons: the agreement of their maps beside a noise band."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.types import Batch, Classes, Images, Targets
from seewhy.data.loading import Reader
from seewhy.explainers.base import Explainer
from seewhy.metrics.similarity import compare_maps
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier
from seewhy.statistics.intervals import DIFFERENCE, compute_mean_intervals, find_difference_bounds
from seewhy.statistics.tests import compute_sign_flip_p

MARGIN = 0.05
"""Rank correlation by which the agreement may stay below the band on average."""
NOISE, COPIES = 0.02, 4
"""Standard deviation of the noise on pixels in [0, 1], and noisy copies of each image, of a network's own stability."""
FEWEST = 6
"""Images for a verdict."""


@dataclass(frozen=True)
class Pair:
    """The same image under two networks.

    Attributes:
        name: Of the image.
        label: Its true class in words; empty where it is unknown.
        first: Class that the first network predicts, in words.
        second: That of the second.
        correct: Whether each is right; None where that is not known.
        agreement: Spearman's correlation of their maps for the class that the first predicts, in [-1, 1].
        band: The same of the first network's maps with those of the band; NaN where there is none for this image.
        image: [channels, height, width] in [0, 1].
        maps: Of both networks [2, height, width].
    """

    name: str
    label: str
    first: str
    second: str
    correct: tuple[bool | None, bool | None]
    agreement: float
    band: float
    image: Tensor
    maps: Tensor


@dataclass(frozen=True)
class Verdict:
    """What all pairs say together.

    Attributes:
        images: How many have an agreement and a band.
        agreement: Mean agreement.
        band: Mean of the band over the same images.
        gap: Mean of agreement less band.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Of the sign-flip test of the gap.
        passed: Whether the reasons are the same: the interval is not wholly below -`MARGIN`; None with too few images.
    """

    images: int
    agreement: float
    band: float
    gap: float
    low: float
    high: float
    p: float
    passed: bool | None


def compare_networks(
    first: Classifier,
    second: Classifier,
    explainer: Explainer,
    read: Reader,
    band: Classifier | None = None,
    seed: int = 0,
) -> Iterator[list[Pair]]:
    """Compare the maps of two networks on the same images, batch by batch.

    Both are explained for the class that the first predicts. The band is the agreement of the first network with a further
    one of the same recipe, or, without one, with itself on noisy copies of the image that keep its prediction.

    Args:
        first: The network that the other is held against.
        second: The other; it must have the same classes.
        explainer: The method.
        read: Reads the same images for the facts of a network.
        band: A network of the first one's recipe with another seed.
        seed: Of the noise.

    Yields:
        The pairs of each batch.

    Raises:
        UserError: The classes differ, or two networks were given different images.
    """
    networks = [first, second, *([band] if band is not None else [])]
    for other in networks[1:]:
        if other.facts.classes != first.facts.classes:
            raise UserError(
                f"{other.name} and {first.name} have other classes, so that their reasons cannot be compared: give networks "
                "for the same classes in the same order (model.classes)"
            )
    for batches in zip(*(read(network.facts) for network in networks), strict=True):
        batch = batches[0]
        if any(each.names != batch.names for each in batches):
            raise UserError("the networks were given different images: some could be read at one size alone")
        if len(batch.images):
            yield _compare_batch(networks, explainer, list(batches), seed, band is not None)


def _compare_batch(
    networks: list[Classifier], explainer: Explainer, batches: list[Batch], seed: int, with_band: bool
) -> list[Pair]:
    first, batch = networks[0], batches[0]
    images = [each.images.to(network.mean) for each, network in zip(batches, networks, strict=True)]
    scores = [
        BatchedEvaluator(network, given[0]).compute_logits(given)
        for network, given in zip(networks, images, strict=True)
    ]
    classes = scores[0].argmax(1)
    maps = [_explain(network, explainer, given, classes) for network, given in zip(networks, images, strict=True)]
    size = maps[0].shape[1:]
    maps = [each if each.shape[1:] == size else _resize(each, size) for each in maps]
    agreement = compare_maps(maps[0], maps[1])
    if with_band:
        bands = compare_maps(maps[0], maps[2])
    else:
        bands = _measure_stability(first, explainer, images[0], classes, maps[0], seed)
    facts = first.facts
    marks = facts.mark_labels(batch.labels.cpu())
    known = (marks if marks.ndim == 1 else marks[:, 0]) >= 0
    right = [facts.are_correct(each.cpu(), marks) for each in scores[:2]]
    return [
        Pair(
            name=name,
            label=batch.label_names[row],
            first=facts.classes[int(classes[row])],
            second=facts.classes[int(scores[1][row].argmax())],
            correct=tuple(bool(each[row]) if known[row] else None for each in right),  # type: ignore[arg-type]
            agreement=float(agreement[row]),
            band=float(bands[row]),
            image=batch.images[row].cpu(),
            maps=torch.stack([maps[0][row], maps[1][row]]).cpu(),
        )
        for row, name in enumerate(batch.names)
    ]


def _explain(network: Classifier, explainer: Explainer, images: Images, classes: Classes) -> Tensor:
    return explainer(network, images, Targets.of(classes))


def _resize(maps: Tensor, size: torch.Size) -> Tensor:
    return nn.functional.interpolate(maps[:, None], size=list(size), mode="bilinear", align_corners=False)[:, 0]


def _measure_stability(
    network: Classifier, explainer: Explainer, images: Images, classes: Classes, maps: Tensor, seed: int
) -> Tensor:
    """Mean agreement of each image's map with those of its noisy copies that keep the prediction; NaN where none does."""
    evaluator = BatchedEvaluator(network, images[0])
    total, count = torch.zeros(len(images), dtype=torch.float64), torch.zeros(len(images))
    for copy in range(COPIES):
        noise = [torch.randn(each.shape, generator=seed_generator(seed, each, f"noise {copy}")) for each in images]
        noisy = (images + NOISE * torch.stack(noise).to(images)).clamp(0, 1)
        kept = (evaluator.compute_logits(noisy).argmax(1) == classes).cpu()
        if not bool(kept.any()):
            continue
        values = compare_maps(maps[kept], _explain(network, explainer, noisy[kept], classes[kept])).cpu().double()
        total[kept] += values
        count[kept] += 1
    return torch.where(count > 0, total / count, math.nan)


def judge(pairs: Iterable[Pair], seed: int = 0) -> Verdict:
    """Judge whether the reasons are the same: whether the agreement reaches the band, less `MARGIN`.

    Args:
        pairs: Of all images.
        seed: Of the bootstrap and of the sign flips.

    Returns:
        Means over the images, the gap with its 95 % interval (bootstrap-t) and its test, and pass or fail.
    """
    values = np.array([[pair.agreement, pair.band] for pair in pairs], dtype=np.float64).reshape(-1, 2)
    values = values[np.isfinite(values).all(1)]
    if not len(values):
        return Verdict(0, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, None)
    gaps: NDArray[np.float64] = values[:, 0] - values[:, 1]
    interval = compute_mean_intervals([gaps], seed, bounds=find_difference_bounds(DIFFERENCE))[0]
    p = float(compute_sign_flip_p([gaps], seed)[0])
    passed = None if len(gaps) < FEWEST else not interval.high < -MARGIN
    agreement, band = values.mean(0).tolist()
    return Verdict(len(gaps), agreement, band, float(gaps.mean()), interval.low, interval.high, p, passed)
