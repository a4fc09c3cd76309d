"""Infidelity: zero for an exact map, by a loop, its best scale, and Captum."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.metrics.base import MetricContext
from seewhy.metrics.faithfulness.infidelity import Infidelity
from seewhy.models.classifier import Classifier
from tiny import double_by_default, linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 8), torch.tensor([2, 0, 2])


def exact(perturbation: str) -> Tensor:
    """Shares of the score for removed squares, the gradient for noise; both of a linear network."""
    weights = linear_classifier()[1][TARGETS]
    return (weights * IMAGES if perturbation == "square" else weights).sum(1)


def scores(metric: Infidelity, maps: Tensor, classifier: Classifier | None = None, **options: Any) -> Tensor:
    known = classifier or linear_classifier()[0]
    images = IMAGES if maps.shape[-1] == 8 else random_images(3, 32)
    context = MetricContext(known, images, TARGETS, maps, **{"probe_batch_size": 7} | options)
    metric.update(known, images, TARGETS, maps, context=context)
    return metric.compute()[metric.name]


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("perturbation", ["square", "noise"])
def test_an_exact_map_of_a_linear_network_is_not_wrong(perturbation: str, normalised: bool) -> None:
    metric = Infidelity(perturbation, n_samples=20, normalised=normalised)
    assert scores(metric, exact(perturbation)).max() < 1e-9
    double = scores(Infidelity(perturbation, n_samples=20, normalised=normalised), 2 * exact(perturbation))
    assert double.max() < 1e-9 if normalised else double.min() > 1e-4


def squares(image: Tensor, largest: int, n_samples: int) -> list[Tensor]:
    generator, found = seed_generator(0, image, f"square {largest}"), []
    height, width = image.shape[1:]
    for _ in range(n_samples):
        share, top, left = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        side = 1 + int(share * largest)
        square = torch.zeros(height, width)
        first, second = int(top * (height - side + 1)), int(left * (width - side + 1))
        square[first : first + side, second : second + side] = 1
        found.append(square)
    return found


@pytest.mark.parametrize("probe_batch_size", [1, 3, 64])
def test_it_equals_the_loop(probe_batch_size: int) -> None:
    classifier, images = small_cnn(), random_images(3, 32)
    maps = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1)) / 100
    expected = []
    for image, target, attribution in zip(images, TARGETS, maps, strict=True):
        errors = []
        for square in squares(image, 9, 15):
            logits = classifier(torch.stack([image, image * (1 - square)])).detach()[:, target]
            errors.append(float((square * attribution).sum() - (logits[0] - logits[1])) ** 2)
        expected.append(sum(errors) / 15)
    found = scores(Infidelity(n_samples=15), maps, classifier, probe_batch_size=probe_batch_size)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-3, atol=1e-9)


def test_squares_reach_every_side_and_place() -> None:
    drawn = torch.stack(squares(IMAGES[0], 3, 400))
    assert set(drawn.sum((1, 2)).tolist()) == {1, 4, 9}
    assert bool(drawn.any(0).all())


def test_the_normalised_form_is_the_best_scale() -> None:
    maps = exact("square") + 0.05 * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(3))
    best = scores(Infidelity(n_samples=30, normalised=True), maps)
    for scale in (-1, 0.3, 0.7, 1, 1.5, 100):
        assert bool((scores(Infidelity(n_samples=30), scale * maps) >= best - 1e-9).all())
    torch.testing.assert_close(scores(Infidelity(n_samples=30, normalised=True), -40 * maps), best)
    assert best.min() > 0


def test_the_two_forms_share_their_passes_and_their_names_differ() -> None:
    classifier, maps = linear_classifier()[0], exact("square")
    context = MetricContext(classifier, IMAGES, TARGETS, maps, probe_batch_size=16)
    for normalised in (False, True):
        Infidelity(n_samples=10, normalised=normalised).update(classifier, IMAGES, TARGETS, maps, context=context)
    assert classifier.passes.forward == 3 * 11
    assert Infidelity("noise", normalised=True).name == "infidelity_noise_normalised"


@pytest.mark.parametrize("normalised", [False, True])
def test_a_map_of_zeros_scores_the_squared_drop_and_a_broken_one_nothing(normalised: bool) -> None:
    maps = torch.zeros(3, 8, 8)
    maps[2, 1, 1] = math.nan
    found = scores(Infidelity(n_samples=20, normalised=normalised), maps)
    weights = linear_classifier()[1][TARGETS]
    for row in (0, 1):
        drops = [float((weights[row] * IMAGES[row] * square).sum()) for square in squares(IMAGES[row], 2, 20)]
        assert float(found[row]) == pytest.approx(sum(drop**2 for drop in drops) / 20, rel=1e-3)
    assert math.isnan(found[2])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"perturbation": "circle"}, "perturbation=circle must be square or noise"),
        ({"size": 0}, "size=0 must be a number above 0"),
        ({"n_samples": 0}, "n_samples=0"),
        ({"baseline": "pink"}, "metric.infidelity.baseline=pink must be black"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Infidelity(**fields)


@pytest.mark.parametrize("normalised", [False, True])
def test_it_equals_captum(normalised: bool) -> None:
    from captum import metrics

    classifier, image, target = small_cnn(), random_images(3, 32)[:1], TARGETS[:1]
    attribution = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(1)) / 100
    drawn = torch.stack(squares(image[0], 9, 12))[:, None]

    def perturb(images: Tensor) -> tuple[Tensor, Tensor]:
        disturbance = drawn[: len(images)]
        return disturbance.expand_as(images), images * (1 - disturbance)

    in_one_channel = torch.cat([attribution[:, None], torch.zeros(1, 2, 32, 32)], 1)
    with double_by_default():
        expected = metrics.infidelity(
            classifier, perturb, image, in_one_channel, target=target, n_perturb_samples=12, normalize=normalised
        )
    metric = Infidelity(n_samples=12, normalised=normalised)
    context = MetricContext(classifier, image, target, attribution, probe_batch_size=16)
    metric.update(classifier, image, target, attribution, context=context)
    torch.testing.assert_close(metric.compute()[metric.name], expected.detach().float(), rtol=1e-5, atol=1e-12)
