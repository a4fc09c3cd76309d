"""From logits to explanations, with every number where it belongs."""

import re

import pytest
import torch
from torch import Tensor, nn

from seewhy.core.types import Batch
from seewhy.explainers.base import Explainer
from seewhy.explainers.batch import build_predictions, explain_batch, find_warnings
from seewhy.explainers.cam import LayerCam
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.explainers.guided_backprop import GuidedBackprop
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.lrp import Lrp
from seewhy.explainers.rise import Rise
from tiny import classifier_of, linear_classifier, random_images, small_cnn


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


class Pooled(nn.Module):
    """Logits of the largest values of 2x2 windows, weighted differently."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(48, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(images).flatten(1))
        return logits


@pytest.mark.parametrize(
    "explainer",
    [
        Saliency(),
        InputXGradient(),
        GuidedBackprop(),
        Lrp(rule="epsilon"),
        IntegratedGradients(n_steps=3),
        IntegratedGradients(n_steps="auto"),
    ],
)
def test_what_rounding_decides_where_a_picture_is_flat_is_measured_and_said(explainer: Explainer) -> None:
    torch.manual_seed(0)
    classifier, batch = classifier_of(Pooled(), 8, 3, normalised=False), batch_of([0, 1, 2])
    batch.images[1] = 0.7
    batch.images[2, :, :, :4] = 1.0
    explained, _ = explain_batch(classifier, batch, classifier(batch.images).detach(), explainer, 1)
    said = [[each for each in one.warnings if "rounding decides" in each] for one in explained]
    assert [len(each) for each in said] == [0, 1, 1]
    shares = [float(re.findall(r"(\d+) %", each[0])[0]) for each in said[1:]]
    assert shares[0] > shares[1] > 30, "all windows tie, and half of them"


def test_flat_pictures_are_explained_once_more_only_where_that_may_matter() -> None:
    classifier, _ = linear_classifier()
    batch = batch_of([0, 1])
    batch.images[1] = 0.7
    logits = classifier(batch.images).detach()
    for explainer, expected in ((Saliency(probe_batch_size=4), 3), (Rise(n_masks=4, probe_batch_size=4), 0)):
        before = classifier.passes.backward
        explained, _ = explain_batch(classifier, batch, logits, explainer, 1)
        assert classifier.passes.backward - before == expected
        assert not any("rounding decides" in each for one in explained for each in one.warnings)


def test_a_map_that_is_even_up_to_rounding_is_named() -> None:
    even = torch.full((6, 6), 0.0026) * (1 + 1e-6 * torch.rand(6, 6, generator=torch.Generator().manual_seed(0)))
    said = "the map is the same everywhere: it says nothing about where"
    assert find_warnings(Saliency(), even, {}) == (said,)
    assert find_warnings(Saliency(), even - 0.0026, {}) == ()  # small differences are a map where there is nothing else
    (warning,) = find_warnings(LayerCam(layer="bn2"), even, {})
    assert warning.startswith(said)
    assert "set explainer.layer to an earlier one" in warning
