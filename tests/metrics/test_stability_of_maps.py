"""Stability: by a loop that explains noisy images one by one, and which of them count."""

import math

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.types import Targets
from seewhy.explainers.base import Explainer
from seewhy.explainers.controls import Centre, Random
from seewhy.explainers.gradient import InputXGradient
from seewhy.metrics.base import MetricContext
from seewhy.metrics.robustness.max_sensitivity import MaxSensitivity
from seewhy.metrics.robustness.stability import Stability
from seewhy.metrics.similarity import compute_spearman
from tiny import random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 2])
EXPLAINER = InputXGradient(probe_batch_size=5)


def build_context(explainer: Explainer = EXPLAINER, probe_batch_size: int = 7) -> MetricContext:
    maps = explainer(small_cnn(), IMAGES, TARGETS)
    options = {"explainer": explainer, "seed": 2, "probe_batch_size": probe_batch_size}
    return MetricContext(small_cnn(), IMAGES, TARGETS, maps, **options)


@pytest.mark.parametrize("probe_batch_size", [1, 4, 64])
def test_it_equals_the_loop_over_noisy_images_with_the_same_prediction(probe_batch_size: int) -> None:
    classifier, counts = small_cnn(), []
    got = Stability(n_samples=8, radius=0.5).measure(build_context(probe_batch_size=probe_batch_size))
    for row, (image, target) in enumerate(zip(IMAGES, TARGETS, strict=True)):
        generator = seed_generator(2, image, "max sensitivity")
        (original,) = EXPLAINER(classifier, image[None], target[None])
        similar = []
        for _ in range(8):
            copy = (image + 0.5 * (2 * torch.rand(image.shape, generator=generator) - 1)).clamp(0, 1)[None]
            if int(classifier(copy).argmax()) == int(classifier(image[None]).argmax()):
                other = EXPLAINER(classifier, copy, target[None])
                similar.append(float(compute_spearman(original.view(1, -1), other.view(1, -1))))
        counts.append(len(similar))
        assert float(got["kept"][row]) == pytest.approx(len(similar) / 8)
        expected = sum(similar) / len(similar) if similar else math.nan
        assert float(got["score"][row]) == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert 0 < sum(counts) < 24, "some of the noisy images change the prediction"


def test_a_map_that_ignores_the_image_is_perfectly_stable_and_a_random_one_is_not() -> None:
    assert Stability(n_samples=3).measure(build_context(Centre()))["score"].tolist() == pytest.approx([1.0] * 3)
    assert Stability(n_samples=3).measure(build_context(Random()))["score"].abs().max() < 0.1


def test_it_shares_its_maps_with_max_sensitivity() -> None:
    context = build_context()
    MaxSensitivity(n_samples=3).measure(context)
    passes = context.classifier.passes
    before = passes.forward, passes.backward
    Stability(n_samples=3).measure(context)
    assert (passes.forward - before[0], passes.backward - before[1]) == (3 * 3 + 3, 0)


def test_of_independent_labels_the_decision_on_those_that_are_explained_counts() -> None:
    classifier = small_cnn()
    facts = classifier.facts.replace({"score": "sigmoid"})
    classifier.facts = facts
    context = MetricContext(classifier, IMAGES, TARGETS, torch.rand(3, 32, 32))
    logits = -torch.ones(3, 10)
    logits[0, 3], logits[1, 0] = 1, 1
    assert context.decide(logits) == [(3,), (), ()]
    weights = torch.zeros(3, 10)
    weights[:, 0], weights[:, 3] = 1, -1
    several = MetricContext(classifier, IMAGES, Targets(weights), torch.rand(3, 32, 32))
    assert several.decide(logits) == [(3,), (0,), ()]
    assert several.decide(logits[[1, 0]], torch.tensor([1, 0])) == [(0,), (3,)]


def test_it_needs_the_explainer() -> None:
    with pytest.raises(UserError, match="stability explains again"):
        Stability().measure(MetricContext(small_cnn(), IMAGES, TARGETS, torch.rand(3, 32, 32)))
