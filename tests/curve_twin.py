"""Perturbation metrics word for word from their papers: one image, one pixel, one pass at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.faithfulness.necessity_sufficiency import NecessityOrdering, SufficiencyOrdering, Tpn, Tps
from seewhy.metrics.faithfulness.pixel_flipping import Deletion, Insertion, MorfLerf
from seewhy.metrics.faithfulness.road import Road
from seewhy.models.classifier import Classifier
from tiny import classifier_of

METRICS: tuple[type[ImageMetric], ...] = (
    Deletion,
    Insertion,
    MorfLerf,
    Road,
    NecessityOrdering,
    SufficiencyOrdering,
    Tpn,
    Tps,
)

Score = Callable[[Tensor], float]


def curved_classifier(seed: int = 3) -> Classifier:
    """8x8 pixels, 3 classes, a hidden layer: perturbations interact."""
    torch.manual_seed(seed)
    hidden = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 3))
    return classifier_of(hidden, 8, 3)


def scorer(classifier: Classifier, target: int, space: str) -> Score:
    def score(image: Tensor) -> float:
        with torch.no_grad():
            logits = classifier(image[None])[0].double()
        return float(logits.softmax(0)[target] if space == "probability" else logits[target])

    return score


def visits(attribution: Tensor, positive: bool = False) -> list[tuple[int, int]]:
    """(row, column) from the largest value to the smallest; all values must differ."""
    height, width = attribution.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    assert len({float(attribution[place]) for place in places}) == len(places)
    kept = [place for place in places if not positive or attribution[place] > 0]
    return sorted(kept, key=lambda place: -float(attribution[place]))


def walk(score: Score, start: Tensor, end: Tensor, places: list[tuple[int, int]]) -> list[float]:
    """The score of `start`, then after each of the places takes its value from `end`."""
    image = start.clone()
    scores = [score(image)]
    for row, column in places:
        image[:, row, column] = end[:, row, column]
        scores.append(score(image))
    return scores


def auc(scores: list[float]) -> float:
    """As in the RISE paper's code: (sum - half the first - half the last) / steps."""
    return (sum(scores) - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)


def necessity(score: Score, image: Tensor, attribution: Tensor) -> tuple[float, float]:
    black = torch.zeros_like(image)
    removed = walk(score, image, black, visits(attribution, positive=True))
    undivided = sum(max(value - score(black), 0) for value in removed) / len(removed)
    return undivided / (score(image) - score(black)), undivided


def sufficiency(score: Score, image: Tensor, attribution: Tensor) -> tuple[float, float]:
    black = torch.zeros_like(image)
    shown = walk(score, black, image, visits(attribution, positive=True))
    low, high = score(black), score(image)
    undivided = sum(min(max(value, low), high) - low for value in shown) / len(shown)
    return undivided / (high - low), undivided


def proportionality(score: Score, image: Tensor, attribution: Tensor, removing: bool) -> float:
    """The integral over 100,000 values of k of the gap between the curves, each normalised and clamped."""
    black = torch.zeros_like(image)
    low, high = score(black), score(image)
    start, end = (image, black) if removing else (black, image)
    places = visits(attribution, positive=True)
    lines = []
    for order in (places, places[::-1]):
        values = np.array([float(attribution[place]) for place in order])
        heights = np.maximum(np.array(walk(score, start, end, order)), low)
        heights = heights if removing else np.minimum(heights, high)
        share = np.concatenate([[0], np.cumsum(values)]) / values.sum()
        middle = (np.arange(100_000) + 0.5) / 100_000
        lines.append(np.interp(middle, share, (heights - low) / (high - low)))
    return float(np.abs(lines[0] - lines[1]).mean())


def make_context(
    classifier: Classifier, images: Tensor, targets: Tensor, maps: Tensor, **options: Any
) -> MetricContext:
    return MetricContext(classifier, images, targets, maps, **({"probe_batch_size": 16} | options))


def measured(metric: ImageMetric, context: MetricContext) -> dict[str, Tensor]:
    """What `compute` gives after one update with this context."""
    images, maps = context.images, context.attributions
    metric.update(context.classifier, images, context.targets, maps, context=context)
    return metric.compute()


TARGETS = torch.tensor([1, 1, 0])
"""Of `curved_classifier` and `random_images(3, 8)`: logits 0.64 and 0.45 above a black image, and 0.97 below it."""
POSITIVE = (NecessityOrdering, SufficiencyOrdering, Tpn, Tps)
RANKING = (Deletion, Insertion, MorfLerf, Road)
FULL = {"n_steps": 64}


def signed_maps(count: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(count, 8, 8, generator=torch.Generator().manual_seed(seed))


def weighted_sum(weights: list[float], size: int = 2) -> Classifier:
    """Logit 0 is sum over pixels p of weights[p] * (mean of the channels at p); logit 1 is 0."""
    layer = nn.Linear(3 * size * size, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0] = torch.tensor(weights).repeat(3) / 3
        layer.bias.zero_()
    return classifier_of(nn.Sequential(nn.Flatten(), layer), size, 2, normalised=False)
