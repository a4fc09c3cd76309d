"""A target is a weight on each output: one class picks its output, a contrast is the weighted sum."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import Incompatible, UserError
from seewhy.core.facts import Facts
from seewhy.core.types import Targets
from seewhy.explainers.base import Explainer
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.occlusion import Occlusion
from seewhy.metrics.base import MetricContext
from seewhy.models.batched import BatchedEvaluator
from tiny import linear_classifier, random_images, small_cnn

OUTPUTS = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 100
CLASSES = torch.tensor([0, 6, 3, 3, 1])
CONTRAST = torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -0.5], [2.0, 0.0, -1.0]])
"""Weights of three images on three outputs."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_score_of_one_class_is_its_output_bit_for_bit(dtype: torch.dtype) -> None:
    outputs = OUTPUTS.to(dtype, copy=True)
    outputs[1, 2] = torch.inf  # an output that another class has must not spoil the score
    assert torch.equal(Targets(CLASSES).score(outputs), outputs.gather(1, CLASSES[:, None])[:, 0])


def test_one_class_and_its_one_hot_weights_have_the_same_score() -> None:
    weights = functional.one_hot(CLASSES, 7).float()
    assert torch.equal(Targets(CLASSES).score(OUTPUTS), Targets(weights).score(OUTPUTS))
    assert torch.equal(Targets(CLASSES).expand(7), weights)


@pytest.mark.parametrize("values", [CLASSES, OUTPUTS])
def test_rows_and_repeats_belong_to_the_same_images(values: Tensor) -> None:
    targets, rows = Targets(values), torch.tensor([4, 0, 0])
    assert torch.equal(targets[rows].score(OUTPUTS[rows]), targets.score(OUTPUTS)[rows])
    assert torch.equal(targets[1:3].score(OUTPUTS[1:3]), targets.score(OUTPUTS)[1:3])
    assert torch.equal(targets.repeat(2).score(OUTPUTS.repeat(2, 1)), targets.score(OUTPUTS).repeat(2))
    assert len(targets) == 5


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (torch.tensor([0, 3]), r"\[0, 3\] must be from 0 to 2"),
        (torch.tensor([0, 1, 2]), r"2 whole numbers \(int64\) or weights \[2, 3\], not \[3\] torch.int64"),
        (torch.zeros(2), r"not \[2\] torch.float32"),
        (torch.zeros(2, 4), r"not \[2, 4\] torch.float32"),
        (torch.zeros(2, 3, dtype=torch.int64), r"not \[2, 3\] torch.int64"),
        (torch.full((2, 3), torch.nan), "NaN or infinite"),
    ],
)
def test_what_is_no_target_is_refused(values: Tensor, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Targets(values).check(2, 3)


def test_a_contrast_has_no_class() -> None:
    with pytest.raises(Incompatible, match="one class an image"):
        _ = Targets(CONTRAST).classes


def test_score_and_gradient_of_a_contrast_are_the_weighted_sums() -> None:
    classifier, weights = linear_classifier()
    images = random_images(3, 8)
    scores, gradient = BatchedEvaluator(classifier, images[0], 2).compute_score_and_gradient(images, Targets(CONTRAST))
    torch.testing.assert_close(scores, (CONTRAST * classifier(images)).sum(1).detach())
    torch.testing.assert_close(gradient, torch.einsum("nc,cdhw->ndhw", CONTRAST.double(), weights))


@pytest.mark.parametrize(
    "explainer",
    [
        InputXGradient(),
        IntegratedGradients(baseline="black", n_steps=3),
        Occlusion(window=1, stride=1, baseline="black", incremental=False),
    ],
    ids=lambda explainer: explainer.name,
)
def test_of_a_linear_network_the_map_of_a_contrast_is_weight_times_image(explainer: Explainer) -> None:
    classifier, weights = linear_classifier()
    images = random_images(3, 8)
    expected = (torch.einsum("nc,cdhw->ndhw", CONTRAST.double(), weights) * images).sum(1)
    torch.testing.assert_close(explainer(classifier, images, Targets(CONTRAST)), expected, rtol=1e-4, atol=1e-6)


def test_saliency_of_a_contrast_is_the_largest_weight() -> None:
    classifier, weights = linear_classifier()
    images = random_images(3, 8)
    expected = torch.einsum("nc,cdhw->ndhw", CONTRAST.double(), weights).abs().amax(1)
    torch.testing.assert_close(Saliency()(classifier, images, Targets(CONTRAST)), expected)


@pytest.mark.parametrize("space", ["logit", "probability"])
def test_metrics_score_a_contrast_in_both_spaces(space: str) -> None:
    classifier, _ = linear_classifier()
    images = random_images(3, 8)
    context = MetricContext(classifier, images, Targets(CONTRAST), torch.zeros(3, 8, 8), probe_batch_size=3)
    outputs = classifier(images).detach()
    values = outputs.exp() / outputs.exp().sum(1, keepdim=True) if space == "probability" else outputs
    torch.testing.assert_close(context.compute_scores(space), (CONTRAST * values).sum(1))


def test_probabilities_are_what_the_facts_say() -> None:
    facts = small_cnn().facts
    assert facts.score == "softmax"
    assert torch.equal(facts.compute_probabilities(OUTPUTS), OUTPUTS.softmax(1))
    with pytest.raises(UserError, match=r"model\.score=entropy must be softmax"):
        Facts(facts.classes, 32, facts.mean, facts.std, score="entropy")
    assert Facts.from_metadata(facts.to_metadata()) == facts
