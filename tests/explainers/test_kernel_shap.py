"""Kernel SHAP against Shapley's formula, the closed form of a linear network, and its own constraint."""

import itertools
import math

import numpy as np
import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.explainers import surrogates
from seewhy.explainers.superpixels import segment_images
from seewhy.explainers.surrogates import KernelShap, ShapleyRegression, draw_coalitions
from seewhy.models.classifier import Classifier, Passes
from tiny import linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


def game(
    classifier: Classifier, image: torch.Tensor, target: int, labels: torch.Tensor, count: int
) -> dict[frozenset[int], float]:
    """The score of every set of seen superpixels on black."""
    scores = {}
    for size in range(count + 1):
        for members in itertools.combinations(range(count), size):
            seen = torch.zeros(count)
            seen[list(members)] = 1
            scores[frozenset(members)] = float(classifier((image * seen[labels])[None])[0, target])
    return scores


def shapley(scores: dict[frozenset[int], float], count: int) -> list[float]:
    """The average gain of each player over all orders in which the players may come."""
    values = [0.0] * count
    for order in itertools.permutations(range(count)):
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            values[player] += (scores[before | {player}] - scores[before]) / math.factorial(count)
    return values


@pytest.mark.parametrize("probe_batch_size", [1, 7])
@torch.no_grad()
def test_few_superpixels_get_their_exact_shapley_values(probe_batch_size: int) -> None:
    classifier = small_cnn()
    found = KernelShap(n_segments=4, probe_batch_size=probe_batch_size).attribute(classifier, IMAGES[:2], TARGETS[:2])
    labels, counts = segment_images(IMAGES[:2], 4)
    for map_, image, target, each, count in zip(found.maps, IMAGES, TARGETS.tolist(), labels, counts, strict=False):
        exact = shapley(game(classifier, image, target, each, count), count)
        for label, value in enumerate(exact):
            assert float(map_[each == label].sum()) == pytest.approx(value, rel=1e-9, abs=1e-9)
            assert float(map_[each == label].std()) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("n_segments", [1, 4, 16])
def test_of_a_linear_network_the_values_are_the_contributions(n_segments: int) -> None:
    classifier, weights = linear_classifier(16)
    images, targets = random_images(2, 16), torch.tensor([2, 0])
    found = KernelShap(n_segments=n_segments, n_samples=100, baseline="grey", probe_batch_size=16)
    maps = found(classifier, images, targets)
    labels, counts = segment_images(images, n_segments)
    contributions = (weights[targets] * (images - 0.5)).sum(1)
    for map_, each, values, count in zip(maps, labels, contributions, counts, strict=True):
        sums, areas = (
            values.new_zeros(count).index_add_(0, each.flatten(), part.flatten())
            for part in (values, torch.ones_like(values))
        )
        torch.testing.assert_close(map_, (sums / areas)[each], rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_samples", [2, 40])
def test_a_map_adds_up_to_the_change_however_few_the_samples(n_samples: int) -> None:
    explainer = KernelShap(n_segments=25, n_samples=n_samples, baseline="white", strict=True, probe_batch_size=16)
    found = explainer.attribute(small_cnn(), IMAGES, TARGETS)
    assert float(found.facts["completeness_gap_relative"].max()) < 1e-4
    with torch.no_grad():
        logits = [small_cnn()(each)[torch.arange(3), TARGETS] for each in (IMAGES, torch.ones_like(IMAGES))]
    torch.testing.assert_close(found.maps.sum((1, 2)), logits[0] - logits[1], rtol=0, atol=1e-9)


def test_sampled_values_come_near_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    worth = torch.rand(2**6, generator=generator, dtype=torch.float64).numpy()
    worth[0] = 0
    powers = 2 ** np.arange(6)

    def values(n_samples: int) -> np.ndarray:
        fit = ShapleyRegression(6)
        for shown, weights in draw_coalitions(6, n_samples, torch.Generator().manual_seed(1)):
            fit.add(shown.numpy(), weights.numpy(), worth[shown.numpy() @ powers])
        return fit.solve(float(worth[-1]))

    scores = {frozenset(np.flatnonzero(number & powers)): value for number, value in enumerate(worth)}
    exact = values(0)
    np.testing.assert_allclose(exact, shapley(scores, 6), atol=1e-12)
    monkeypatch.setattr(surrogates, "EXACT", 0)
    errors = [np.abs(values(n_samples) - exact).max() for n_samples in (40, 4000)]
    assert errors[1] < 0.03 < errors[0]


def test_coalitions_come_with_their_complements_and_in_the_right_sizes() -> None:
    blocks = list(draw_coalitions(20, 1500, torch.Generator().manual_seed(0)))
    shown = torch.cat([block for block, _ in blocks])
    assert [len(block) for block, _ in blocks] == [512, 512, 476]
    assert torch.equal(shown[0::2], ~shown[1::2])
    sizes = shown.sum(1)
    share = 1 / (torch.arange(1, 20) * (20 - torch.arange(1, 20)))
    torch.testing.assert_close(sizes.bincount(minlength=20)[1:] / 1500, share / share.sum(), rtol=0, atol=0.03)
    torch.testing.assert_close(shown.float().mean(0), torch.full((20,), 0.5))


def test_weights_of_all_coalitions_are_the_shapley_kernel() -> None:
    ((shown, weights),) = draw_coalitions(4, 2, torch.Generator())
    assert len(shown) == len({tuple(row) for row in shown.tolist()}) == 14
    kernel = {size: 3 / (math.comb(4, size) * size * (4 - size)) for size in (1, 2, 3)}
    expected = torch.tensor([kernel[int(size)] for size in shown.sum(1)], dtype=torch.float64)
    torch.testing.assert_close(weights * 3, expected)


def test_a_map_belongs_to_seed_and_image_alone() -> None:
    classifier, explainer = small_cnn(), KernelShap(n_segments=16, n_samples=40, probe_batch_size=4)
    maps = explainer(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(explainer(classifier, IMAGES[2:], TARGETS[2:]), maps[2:], rtol=0, atol=1e-9)
    other = KernelShap(n_segments=16, n_samples=40, seed=1, probe_batch_size=4)(classifier, IMAGES, TARGETS)
    assert not torch.allclose(other, maps, rtol=1e-2)


def test_passes_equal_the_formula() -> None:
    classifier, explainer = small_cnn(), KernelShap(n_segments=36, n_samples=10, probe_batch_size=4)
    explainer(classifier, IMAGES, TARGETS)
    assert explainer.passes_per_image(size=32) == (14, 0)
    assert classifier.passes == Passes(42, 0)
    assert KernelShap(n_segments=8).passes_per_image(size=32) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_segments": 0}, "explainer.n_segments=0"),
        ({"n_samples": 0}, "explainer.n_samples=0 must be an even whole number"),
        ({"n_samples": 7}, "explainer.n_samples=7 must be an even whole number"),
        ({"baseline": "pink"}, "explainer.baseline=pink must be black"),
        ({"tolerance": 0.0}, "explainer.tolerance=0.0"),
    ],
)
def test_impossible_parameters_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        KernelShap(**options)  # type: ignore[arg-type]
