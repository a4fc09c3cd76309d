"""The metrics that read perturbation curves: values by hand, bounds, a planted patch."""

import itertools
import math

import pytest
import torch

from curve_twin import (
    RANKING,
    make_context,
    measured,
    signed_maps,
    weighted_sum,
)
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.faithfulness.necessity_sufficiency import NecessityOrdering, SufficiencyOrdering, Tpn, Tps
from seewhy.metrics.faithfulness.pixel_flipping import Deletion, Insertion, MorfLerf
from tiny import random_images


def on_2x2(metric: ImageMetric, weights: list[float], pixels: list[float], values: list[float]) -> dict[str, float]:
    image = torch.tensor(pixels).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    context = make_context(weighted_sum(weights), image, torch.tensor([0]), torch.tensor(values).view(1, 2, 2))
    return {column: float(value) for column, value in measured(metric, context).items()}


ONES, VALUES, REVERSED = [1.0] * 4, [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize(
    ("metric", "values", "by_hand"),
    [
        # what is left after each removal: 1.0, 0.6, 0.3, 0.1, 0.0
        (Deletion(space="logit"), VALUES, 0.25 * (1.0 / 2 + 0.6 + 0.3 + 0.1 + 0.0 / 2)),
        (Deletion(space="logit"), REVERSED, 0.25 * (1.0 / 2 + 0.9 + 0.7 + 0.4 + 0.0 / 2)),
        (Insertion("black", space="logit"), VALUES, 0.25 * (0.0 / 2 + 0.4 + 0.7 + 0.9 + 1.0 / 2)),
        # on its mean, 0.25: 1.0, 1.15, 1.2, 1.15, 1.0
        (Insertion("mean", space="logit"), VALUES, 0.25 * (1.0 / 2 + 1.15 + 1.2 + 1.15 + 1.0 / 2)),
        (MorfLerf(space="logit"), VALUES, 0.625 - 0.375),
        (MorfLerf(space="logit"), REVERSED, 0.375 - 0.625),
        (NecessityOrdering(), VALUES, (1.0 + 0.6 + 0.3 + 0.1 + 0.0) / 5),
        (SufficiencyOrdering(), VALUES, (0.0 + 0.4 + 0.7 + 0.9 + 1.0) / 5),
        # two steps: 0, 2 and 4 pixels, the others on straight lines
        (Deletion(n_steps=2, space="logit"), VALUES, 0.5 * (1.0 / 2 + 0.3 + 0.0 / 2)),
        # proportional values: both curves are the diagonal
        (Tpn(), VALUES, 0.0),
        (Tps(), VALUES, 0.0),
        # largest first, the shares 0, .4, .7, .9, 1 leave 1, .9, .7, .4, 0: .4 * .95 + .3 * .8 + .2 * .55 + .1 * .2 = .75;
        # smallest first, the shares 0, .1, .3, .6, 1 leave 1, .6, .3, .1, 0: .1 * .8 + .2 * .45 + .3 * .2 + .4 * .05 = .25
        (Tpn(), REVERSED, 0.75 - 0.25),
        (Tps(), REVERSED, 0.75 - 0.25),
    ],
)
def test_areas_by_hand(metric: ImageMetric, values: list[float], by_hand: float) -> None:
    assert on_2x2(metric, ONES, VALUES, values)[metric.name] == pytest.approx(by_hand, abs=1e-6)


def test_probabilities_by_hand() -> None:
    left = [1 / (1 + math.exp(-logit)) for logit in (1.0, 0.6, 0.3, 0.1, 0.0)]
    assert left == pytest.approx([0.731059, 0.645656, 0.574443, 0.524979, 0.5], abs=1e-6)
    area = 0.25 * (0.731059 / 2 + 0.645656 + 0.574443 + 0.524979 + 0.5 / 2)
    assert on_2x2(Deletion(), ONES, VALUES, VALUES)["deletion"] == pytest.approx(area, abs=1e-5)


def test_necessity_on_a_linear_toy() -> None:
    """f = w.x with x = 1 and attribution w * x: removing the positive part alone drives f below f(b) = 0."""
    weights = [3.0, 2.0, -1.0, -2.0]  # f(x) = 2; without the first 1: -1, without the first 2: -3
    got = on_2x2(NecessityOrdering(), weights, ONES, weights)
    assert got["necessity_ordering_undivided"] == pytest.approx((2 + 0 + 0) / 3)
    assert got["necessity_ordering"] == pytest.approx((2 + 0 + 0) / 3 / 2)
    assert got["necessity_ordering_coverage"] == 0.5
    shown = on_2x2(SufficiencyOrdering(), weights, ONES, weights)
    assert shown["sufficiency_ordering_undivided"] == pytest.approx((0 + 2 + 2) / 3)  # 3 and 5, not more than f(x) = 2
    assert shown["sufficiency_ordering"] == pytest.approx((0 + 1 + 1) / 3)
    # leaves 2, 0, 0 over the shares 0, .6, 1, and 2, 0, 0 over 0, .4, 1: triangles that differ by .1
    assert on_2x2(Tpn(), weights, ONES, weights)["tpn"] == pytest.approx(0.6 / 2 - 0.4 / 2)
    # shows 0, 2, 2 over 0, .6, 1 and 0, 2, 2 over 0, .4, 1
    assert on_2x2(Tps(), weights, ONES, weights)["tps"] == pytest.approx(0.6 / 2 - 0.4 / 2)


def test_an_image_below_its_baseline_has_no_normalised_score() -> None:
    weights = [3.0, 2.0, -4.0, -3.0]  # f(x) = -2, then -5, -7: never above f(b) = 0
    got = on_2x2(NecessityOrdering(), weights, ONES, weights)
    assert got["necessity_ordering_undivided"] == 0.0
    assert math.isnan(got["necessity_ordering"])
    for metric in (SufficiencyOrdering(), Tpn(), Tps()):
        assert math.isnan(on_2x2(metric, weights, ONES, weights)[metric.name])


def all_orders() -> list[list[float]]:
    return [list(values) for values in itertools.permutations((0.4, 0.3, 0.2, 0.1))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Deletion, Insertion, MorfLerf, NecessityOrdering, SufficiencyOrdering])
def test_truth_and_its_reverse_are_the_best_and_the_worst_of_all_orders(kind: type[ImageMetric]) -> None:
    options = {"baseline": "black"}
    scores = [
        on_2x2(kind(**options), [5.0, 3.0, 1.0, 0.5], [0.9] * 4, order)[kind(**options).name] for order in all_orders()
    ]
    best, worst = (max, min) if kind.higher_is_better else (min, max)
    assert scores[0] == best(scores) != worst(scores) == scores[-1]
    assert len({round(score, 5) for score in scores}) > 10


def test_bounds_are_reached_where_one_pixel_decides() -> None:
    """A sure answer that hangs on one of 64 pixels: the areas come within half a step of 0 and 1."""
    weights = [0.0] * 64
    weights[9] = 200.0
    classifier = weighted_sum(weights, 8)
    with torch.no_grad():
        classifier.network[1].bias[1] = 100.0  # type: ignore[index]
    truth = torch.zeros(1, 8, 8)
    truth[0, 1, 1] = 1
    for sign, bounds in ((1, (0, 1, 1)), (-1, (1, 0, -1))):
        context = make_context(classifier, torch.ones(1, 3, 8, 8), torch.tensor([0]), sign * truth)
        for metric, bound in zip(
            (Deletion(n_steps=64), Insertion("black", 64), MorfLerf(n_steps=64)), bounds, strict=True
        ):
            assert float(measured(metric, context)[metric.name]) == pytest.approx(bound, abs=1 / 64)


def test_a_planted_patch_beats_noise_everywhere() -> None:
    patch = torch.zeros(8, 8)
    patch[2:5, 3:6] = 1
    classifier = weighted_sum((4 * patch).flatten().tolist(), 8)
    with torch.no_grad():
        classifier.network[1].bias[1] = 28.0  # type: ignore[index]
    images = 0.4 + 0.2 * random_images(4, 8)
    images[:, :, 2:5, 3:6] += 0.4
    targets = torch.zeros(4, dtype=torch.int64)
    for kind in (*RANKING, NecessityOrdering, SufficiencyOrdering):
        found, noise = (
            measured(kind(), make_context(classifier, images, targets, each))[kind().name]
            for each in (images.mean(1) * patch + 0.01 * signed_maps(4).abs(), signed_maps(4).abs())
        )
        gains = found - noise if kind.higher_is_better else noise - found
        assert bool((gains > 0.02).all()), (kind, gains)
