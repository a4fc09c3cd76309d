"""The sufficient region: by a loop that shows one more step of pixels at a time, and which images have one."""

import pytest
import torch

from curve_twin import curved_classifier, visits
from seewhy.explainers.baselines import build_baselines
from seewhy.metrics.base import MetricContext
from seewhy.metrics.faithfulness.pixel_flipping import Insertion
from seewhy.metrics.faithfulness.sufficient_region import SufficientRegion
from tiny import random_images

IMAGES = random_images(24, 8)
MAPS = torch.randn(24, 8, 8, generator=torch.Generator().manual_seed(4))
PREDICTED = curved_classifier()(IMAGES).argmax(1).detach()


def build_context(targets: torch.Tensor = PREDICTED, maps: torch.Tensor = MAPS) -> MetricContext:
    return MetricContext(curved_classifier(), IMAGES, targets, maps, probe_batch_size=7)


def test_it_equals_the_twin_that_shows_a_step_at_a_time() -> None:
    classifier, sizes, firsts = curved_classifier(), [], []
    for image, attribution, predicted in zip(IMAGES, MAPS, PREDICTED.tolist(), strict=True):
        places, answers = visits(attribution), []
        for count in range(0, 65, 8):
            shown = build_baselines("black", image[None])[0]
            for row, column in places[:count]:
                shown[:, row, column] = image[:, row, column]
            answers.append(int(classifier(shown[None]).argmax()) == predicted)
        sizes.append(min(step for step in range(9) if all(answers[step:])) / 8)
        firsts.append(answers.index(True) / 8)
    got = SufficientRegion("black", n_steps=8).measure(build_context())
    assert got["score"].tolist() == pytest.approx(sizes)
    assert got["first"].tolist() == pytest.approx(firsts)
    assert any(size > first for size, first in zip(sizes, firsts, strict=True)), "predictions can be lost again"
    assert len(set(sizes)) > 3


def test_what_is_kept_is_the_prediction_whatever_the_map_explains() -> None:
    maps = MAPS.clone()
    maps[5, 0, 0] = torch.nan
    got = SufficientRegion(n_steps=8).measure(build_context(maps=maps))["score"]
    other = SufficientRegion(n_steps=8).measure(build_context((PREDICTED + 1) % 3, maps))["score"]
    torch.testing.assert_close(got, other, rtol=0, atol=0, equal_nan=True)
    assert got.isnan().nonzero()[:, 0].tolist() == [5], "a broken map has no region"


def test_of_independent_labels_the_decision_on_the_target_is_kept() -> None:
    classifier = curved_classifier()
    classifier.facts = classifier.facts.replace({"score": "sigmoid"})
    targets = torch.zeros(24, dtype=torch.int64)
    context = MetricContext(classifier, IMAGES, targets, MAPS, probe_batch_size=7)
    got = SufficientRegion("black", n_steps=4).measure(context)["score"]
    for row, (image, attribution) in enumerate(zip(IMAGES, MAPS, strict=True)):
        answers = []
        for count in range(0, 65, 16):
            shown = torch.zeros_like(image)
            for place in visits(attribution)[:count]:
                shown[:, place[0], place[1]] = image[:, place[0], place[1]]
            answers.append(bool((classifier(shown[None])[0, 0] > 0) == (classifier(image[None])[0, 0] > 0)))
        assert float(got[row]) == min(step for step in range(5) if all(answers[step:])) / 4


def test_its_passes_are_those_of_insertion() -> None:
    context = build_context()
    Insertion(n_steps=8).measure(context)
    before = context.classifier.passes.forward
    SufficientRegion(n_steps=8).measure(context)
    assert context.classifier.passes.forward == before
