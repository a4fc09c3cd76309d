"""Necessity ordering of one linear model: the definition, and the ablation that study 2 computed instead."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class OrderingToy(NamedTuple):
    """1 / (P + 1) * sum of the clamped scores max(f - f(0), 0) of a linear model f(x) = sum(w x)."""

    pixels: int
    positive: int
    """P, the pixels with positive attribution w x."""
    step: int
    """Pixels removed at a time where it is not one."""
    exact: float
    """The definition: i = 0 .. P, one pixel at a time."""
    stepped: float
    """The same `step` pixels at a time, without the term i = 0, which the study leaves out."""
    first_term: float
    """That term, max(f(x) - f(0), 0) / (P + 1)."""
    study: float
    """What the study's code computes: the image times the mask of the positive pixels that are left."""


def linear_toy(seed: int = 0, side: int = 40) -> tuple[Values, Values]:
    """(weights from a normal distribution, image from a uniform one), both [side * side]."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal(side * side), generator.random(side * side)


def ordering_toy(weights: Values, image: Values, step: int = 70) -> OrderingToy:
    """All versions of the score for the exact attribution w x of the linear model, whose baseline f(0) is 0.

    The study divides by P / step + 1, one more than its number of steps.
    """
    attribution = weights * image
    order = np.argsort(-attribution, kind="stable")
    positive = int((attribution > 0).sum())
    removed = np.array([_score(weights, image, order[:count]) for count in range(positive + 1)])
    counts = range(step, positive + 1, step)
    left = [float(attribution[order[count:positive]].sum()) for count in counts]
    return OrderingToy(
        pixels=len(image),
        positive=positive,
        step=step,
        exact=float(removed.sum() / (positive + 1)),
        stepped=float(sum(removed[count] for count in counts) / (positive / step + 1)),
        first_term=float(removed[0] / (positive + 1)),
        study=sum(left) / (positive / step + 1),
    )


def _score(weights: Values, image: Values, removed: NDArray[np.int64]) -> float:
    """The clamped score of the image with these pixels black, all others unchanged."""
    changed = image.copy()
    changed[removed] = 0
    return max(float(weights @ changed), 0.0)
