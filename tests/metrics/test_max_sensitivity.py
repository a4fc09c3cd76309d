"""Max-sensitivity: zero where the map does not move, by hand where it is linear, a loop, Captum."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.explainers.base import Explainer
from seewhy.explainers.controls import Random
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.metrics.base import MetricContext
from seewhy.metrics.robustness.max_sensitivity import MaxSensitivity
from tiny import linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 2])


def scores(metric: MaxSensitivity, explainer: Explainer | None, maps: Tensor | None = None, **options: Any) -> Tensor:
    classifier = small_cnn()
    known = (
        Saliency(probe_batch_size=8)(classifier, IMAGES, TARGETS)
        if explainer is None
        else explainer(classifier, IMAGES, TARGETS)
    )
    known = known if maps is None else maps
    context = MetricContext(
        classifier, IMAGES, TARGETS, known, **{"explainer": explainer, "probe_batch_size": 7, "seed": 2} | options
    )
    metric.update(classifier, IMAGES, TARGETS, known, context=context)
    return metric.compute()["max_sensitivity"]


def noisy(image: Tensor, n_samples: int, radius: float, seed: int = 2) -> Tensor:
    generator = seed_generator(seed, image, "max sensitivity")
    noise = torch.stack([radius * (2 * torch.rand(image.shape, generator=generator) - 1) for _ in range(n_samples)])
    return (image + noise).clamp(0, 1)


def test_the_gradient_of_a_linear_network_does_not_move() -> None:
    classifier = linear_classifier()[0]
    images, targets, explainer = random_images(2, 8), torch.tensor([0, 2]), Saliency(probe_batch_size=4)
    maps, metric = explainer(classifier, images, targets), MaxSensitivity(radius=0.5)
    context = MetricContext(classifier, images, targets, maps, explainer=explainer, probe_batch_size=4)
    metric.update(classifier, images, targets, maps, context=context)
    assert metric.compute()["max_sensitivity"].tolist() == [0, 0]


@pytest.mark.parametrize("probe_batch_size", [1, 4, 64])
@pytest.mark.parametrize("explainer", [Saliency(probe_batch_size=5), InputXGradient(probe_batch_size=5)])
def test_it_equals_the_loop(explainer: Explainer, probe_batch_size: int) -> None:
    classifier, expected = small_cnn(), []
    for image, target in zip(IMAGES, TARGETS, strict=True):
        (original,) = explainer(classifier, image[None], target[None])
        others = [explainer(classifier, copy[None], target[None])[0] for copy in noisy(image, 6, 0.1)]
        expected.append(max(float((other - original).norm() / original.norm()) for other in others))
    found = scores(MaxSensitivity(n_samples=6, radius=0.1), explainer, probe_batch_size=probe_batch_size)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-3, atol=1e-6)


def test_more_noise_and_more_samples_move_more() -> None:
    explainer = InputXGradient(probe_batch_size=16)
    little, much = (scores(MaxSensitivity(n_samples=5, radius=radius), explainer) for radius in (0.01, 0.3))
    assert bool((much > little).all())
    more = scores(MaxSensitivity(n_samples=10, radius=0.3), explainer)
    assert bool((more >= much).all())


def test_a_map_of_noise_is_as_far_from_itself_as_noise() -> None:
    """|a - b| / |a| of independent normal maps is near the square root of 2."""
    found = scores(MaxSensitivity(n_samples=3), Random())
    assert bool(((found > 1.3) & (found < 1.6)).all())


def test_undefined_values_and_the_missing_explainer() -> None:
    maps = Saliency(probe_batch_size=8)(small_cnn(), IMAGES, TARGETS)
    maps[0], maps[1, 0, 0] = 0, math.nan
    found = scores(MaxSensitivity(n_samples=2), Saliency(probe_batch_size=8), maps)
    assert found.isnan().tolist() == [True, True, False]
    with pytest.raises(UserError, match="max_sensitivity explains again and needs the explainer"):
        scores(MaxSensitivity(), None)
    with pytest.raises(UserError, match="radius=5 must be a number above 0 and at most 1"):
        MaxSensitivity(radius=5)


def test_it_equals_captum() -> None:
    from captum import metrics

    classifier, explainer = small_cnn(), InputXGradient(probe_batch_size=16)
    image, target = 0.2 + 0.6 * IMAGES[:1], TARGETS[:1]

    def bare(images: Tensor | tuple[Tensor]) -> Tensor:
        return images if isinstance(images, Tensor) else images[0]

    def explain(images: Tensor | tuple[Tensor], target: Tensor) -> tuple[Tensor]:
        copies = bare(images)
        return (explainer(classifier, copies, target.expand(len(copies))),)

    def perturb(images: Tensor | tuple[Tensor]) -> Tensor:
        return noisy(image[0], 6, 0.1)[: len(bare(images))]

    expected = metrics.sensitivity_max(explain, image, perturb, n_perturb_samples=6, target=target)
    maps, metric = explainer(classifier, image, target), MaxSensitivity(n_samples=6, radius=0.1)
    context = MetricContext(classifier, image, target, maps, explainer=explainer, seed=2, probe_batch_size=4)
    metric.update(classifier, image, target, maps, context=context)
    torch.testing.assert_close(metric.compute()["max_sensitivity"], expected.float(), rtol=1e-5, atol=1e-6)
