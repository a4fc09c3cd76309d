"""From logits to explanations, with every number where it belongs."""

import pytest
import torch

from seewhy.core.types import Batch
from seewhy.explainers.batch import build_predictions, explain_batch
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.integrated_gradients import IntegratedGradients
from tiny import linear_classifier, random_images, small_cnn


def batch_of(labels: list[int], size: int = 8) -> Batch:
    names = [f"image{index}" for index in range(len(labels))]
    words = ["" if label < 0 else f"class {label}" for label in labels]
    return Batch(
        random_images(len(labels), size), torch.tensor(labels), names, [f"/{name}" for name in names], words, []
    )


def test_predictions_tell_right_from_wrong_and_unknown() -> None:
    classifier, _ = linear_classifier()
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0], [0.0, 1.0, 0.0]])
    made = build_predictions(classifier, batch_of([0, 0, -1]), logits)
    assert [one.name for one in made] == ["class 0", "class 2", "class 1"]
    assert [one.correct for one in made] == [True, False, None]
    assert made[0].probability == pytest.approx(float(logits[0].softmax(0)[0]))
    assert [word for word, _ in made[0].top] == ["class 0", "class 1", "class 2"]


def test_maps_stay_with_their_image_when_some_are_skipped() -> None:
    classifier, weights = linear_classifier()
    batch = batch_of([1, -1, 2])
    made, skipped = explain_batch(classifier, batch, classifier(batch.images), Saliency(probe_batch_size=4), "true")
    assert [one.name for one in made] == ["image0", "image2"]
    assert [one.path for one in skipped] == ["/image1"]
    assert "target=true" in skipped[0].reason
    for one, label in zip(made, (1, 2), strict=True):
        torch.testing.assert_close(one.attribution, weights[label].abs().amax(0))
        assert (one.target.index, one.target.policy) == (label, "true")


def test_the_target_probability_is_that_of_the_target() -> None:
    classifier, _ = linear_classifier()
    batch = batch_of([0, 1])
    logits = classifier(batch.images).detach()
    made, _ = explain_batch(classifier, batch, logits, Saliency(probe_batch_size=4), "runner_up")
    expected = logits.softmax(1).sort(dim=1, descending=True).values[:, 1]
    assert [one.target.probability for one in made] == pytest.approx(expected.tolist())


def test_a_gap_over_the_tolerance_is_a_warning() -> None:
    classifier, _ = linear_classifier()
    batch = batch_of([0, 1])
    logits = classifier(batch.images).detach()
    exact, _ = explain_batch(classifier, batch, logits, IntegratedGradients(n_steps=2, probe_batch_size=4), "predicted")
    assert all(not one.warnings for one in exact)
    assert exact[0].facts["completeness_gap_relative"] < 1e-4
    assert exact[0].facts["n_steps"] == 2
    curved, batch = small_cnn(), batch_of([0, 1], 32)
    coarse = IntegratedGradients(n_steps=1, tolerance=1e-6, probe_batch_size=4)
    warned, _ = explain_batch(curved, batch, curved(batch.images).detach(), coarse, "predicted")
    assert all(one.facts["completeness_gap_relative"] > 1e-3 for one in warned)  # of the rule, far above rounding
    assert all(any("completeness gap" in warning for warning in one.warnings) for one in warned)


def test_an_empty_map_is_said_to_be_empty() -> None:
    classifier, _ = linear_classifier()
    with torch.no_grad():
        classifier.network[1].weight.zero_()  # type: ignore[index, union-attr]
    batch = batch_of([0])
    made, _ = explain_batch(classifier, batch, classifier(batch.images), Saliency(probe_batch_size=4), "predicted")
    assert made[0].warnings == ("the map is zero everywhere",)
