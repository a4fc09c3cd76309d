"""Explanations of networks whose outputs are no softmax: binary, several labels, values; returned in a mapping."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainer_checks import assert_same, state_of
from page_text import PageText
from seewhy import explain
from seewhy.analyses.robustness.measure import CLEAN, CleanResults, Group, build_prediction_row
from seewhy.core.errors import Incompatible
from seewhy.core.facts import Facts
from seewhy.core.types import Batch
from seewhy.data.corruptions.attacks import FGSM, compute_loss_gradient
from seewhy.explainers.batch import build_predictions, explain_batch
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.occlusion import Occlusion
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier
from seewhy.runs.batch_results import collect_batch_results
from seewhy.runs.journal import Journal
from tiny import random_images

SIZE = 6


class Head(nn.Module):
    """A linear network whose outputs go through a function."""

    def __init__(self, outputs: int, wrap: Any = lambda outputs: outputs) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3 * SIZE**2, outputs)
        self.wrap = wrap

    def forward(self, images: Tensor) -> Any:
        return self.wrap(self.layer(images.flatten(1)))


def classifier_of(network: Head, score: str, classes: tuple[str, ...], **options: Any) -> Classifier:
    facts = Facts(classes, SIZE, (0.0,) * 3, (1.0,) * 3, score=score, **options)
    return Classifier(network.double(), facts, name="head").double().eval()


def weights_of(classifier: Classifier) -> Tensor:
    layer: Any = classifier.network.layer
    return layer.weight.detach().view(-1, 3, SIZE, SIZE)


def batch_of(labels: Tensor) -> Batch:
    names = [f"image{index}" for index in range(len(labels))]
    return Batch(random_images(len(labels), SIZE), labels, names, names, ["words"] * len(labels), [])


def answer(classifier: Classifier, batch: Batch) -> Tensor:
    with torch.no_grad():
        return classifier(batch.images)


def test_both_classes_of_one_logit_are_explained() -> None:
    classifier = classifier_of(Head(1, lambda z: z - 3), "binary", ("no", "yes"))
    batch = batch_of(torch.tensor([0, 1, -1]))
    scores = answer(classifier, batch)
    layer: Any = classifier.network.layer
    z = (weights_of(classifier)[0] * batch.images).sum((1, 2, 3)) + layer.bias.detach() - 3
    torch.testing.assert_close(scores, torch.stack([-z, z], 1))
    explanations, _ = explain_batch(classifier, batch, scores, Saliency(probe_batch_size=2), "predicted")
    for explanation, logit, correct in zip(explanations, z.tolist(), (True, False, None), strict=True):
        assert (explanation.prediction.index, explanation.prediction.name) == (0, "no")
        assert explanation.prediction.probability == pytest.approx(1 / (1 + math.exp(logit)), rel=1e-5)
        assert explanation.prediction.correct is correct
    runner_up, _ = explain_batch(classifier, batch, scores, Saliency(probe_batch_size=2), "runner_up")
    assert [each.target.name for each in runner_up] == ["yes"] * 3
    assert [each.target.probability for each in runner_up] == pytest.approx(z.sigmoid().tolist(), rel=1e-5)


def test_labels_above_the_threshold_are_predicted_and_all_must_be_right() -> None:
    outputs = torch.tensor([[2.0, -1.0, 1.0], [-1.0, -2.0, -3.0], [0.5, -1.0, -1.0], [3.0, 3.0, 3.0]])
    classifier = classifier_of(Head(3), "sigmoid", ("cat", "dog", "car"))
    batch = batch_of(torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [-1, -1, -1]]))
    first, second, third, fourth = build_predictions(classifier, batch, outputs)
    assert (first.name, first.labels, first.true_labels) == ("cat, car", ("cat", "car"), ("cat", "car"))
    assert first.probability == pytest.approx(1 / (1 + math.exp(-2)))
    assert (first.correct, first.label_accuracy) == (True, 1.0)
    assert (second.name, second.labels, second.correct) == ("no label", (), True)
    assert (third.correct, third.label_accuracy) == (False, pytest.approx(1 / 3))
    assert (fourth.true_labels, fourth.correct, fourth.label_accuracy) == (None, None, None)
    single = build_predictions(classifier, batch_of(torch.tensor([0, -1, 0, 1])), outputs)
    assert [each.correct for each in single] == [False, None, True, False], "one label an image is that label alone"


def test_values_without_meaning_are_ranked_and_have_no_probability() -> None:
    classifier = classifier_of(Head(3), "none", ("unit 0", "unit 1", "unit 2"))
    batch = batch_of(torch.tensor([-1]))
    scores = torch.tensor([[0.5, 4.0, -9.0]])
    (explanation,), _ = explain_batch(classifier, batch, scores, Saliency(probe_batch_size=2), "predicted")
    assert (explanation.prediction.name, explanation.prediction.correct) == ("unit 1", None)
    assert math.isnan(explanation.prediction.probability)
    assert math.isnan(explanation.target.probability)
    assert explanation.prediction.top[0] == ("unit 1", 4.0)
    results = collect_batch_results(classifier, {"logits": scores, "explanations": [explanation]}, batch)
    assert [image.loss for image in results.images] == [None]


@pytest.mark.slow
def test_nothing_that_is_written_calls_them_probabilities(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3))
    facts: dict[str, Any] = {"classes": 3, "size": 16, "mean": [0.5] * 3, "std": [0.1] * 3, "score": "none"}
    options: dict[str, Any] = {"metrics": ["deletion", "insertion", "average_drop"], "overrides": ["trainer=cpu"]}
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    results = explain(network, images, ["saliency", "rise"], n_masks=20, cells=3, **facts, **options)
    assert {each.parameters for each in results[3:]} == {"n_masks=20, cells=3, probability=0.5, space=logit"}
    folder = next(results[:3].save(tmp_path / "runs").rglob("run.json")).parent
    with (folder / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["logit"] and not row["probability"] for row in rows)
    written = [line for path in folder.glob("*.csv") for line in path.read_text().splitlines()[1:]]
    assert "probab" not in "".join([*written, (folder / "metrics.json").read_text()])
    page = PageText(results[:3].report(tmp_path / "page.html")).text
    assert "The target's output value while pixels are removed" in page
    assert "probab" not in page


def test_the_results_of_a_batch_are_read_back_with_their_labels(tmp_path: Path) -> None:
    classifier = classifier_of(Head(3), "sigmoid", ("cat", "dog", "car"))
    batch = batch_of(torch.tensor([[1, 0, 1], [-1, -1, -1]]))
    scores = answer(classifier, batch)
    results = collect_batch_results(classifier, {"logits": scores}, batch)
    expected = functional.binary_cross_entropy_with_logits(scores[0], batch.labels[0].double())
    assert results.images[0].loss == pytest.approx(float(expected), rel=1e-5)
    assert results.images[1].loss is None
    values = classifier_of(Head(3), "none", ("unit 0", "unit 1", "unit 2"))
    unnamed = collect_batch_results(values, {"logits": scores}, batch_of(torch.tensor([-1, -1])))
    journal = Journal(tmp_path)
    journal.begin(None)
    for number, each in enumerate((results, unnamed)):
        journal.write(number, each)
    assert list(map(repr, journal.read_batches())) == [repr(results), repr(unnamed)]


@pytest.mark.parametrize("wrap", [lambda z: {"logits": z, "z": 2 * z}, lambda z: (z,), lambda z: z[:, :, None, None]])
def test_what_holds_the_scores_changes_nothing(wrap: Any) -> None:
    plain, held = (classifier_of(Head(3, *given), "softmax", ("a", "b", "c")) for given in ([], [wrap]))
    images, targets = random_images(2, SIZE), torch.tensor([0, 2])
    for explainer in (Saliency(probe_batch_size=2), Occlusion(window=2, stride=1, probe_batch_size=3)):
        torch.testing.assert_close(explainer(held, images, targets), explainer(plain, images, targets))


def test_a_forward_without_gradient_is_refused_where_one_is_needed() -> None:
    classifier = classifier_of(Head(3, lambda z: z.detach()), "softmax", ("a", "b", "c"))
    images, targets, before = random_images(2, SIZE), torch.tensor([0, 2]), state_of(classifier)
    with pytest.raises(Incompatible, match=r"no gradient .* occlusion"):
        Saliency(probe_batch_size=2)(classifier, images, targets)
    assert_same(before, state_of(classifier))
    plain = classifier_of(Head(3), "softmax", ("a", "b", "c"))
    occlusion = Occlusion(window=2, stride=1, probe_batch_size=3)
    torch.testing.assert_close(occlusion(classifier, images, targets), occlusion(plain, images, targets))


def test_an_attack_pushes_the_probability_down_whatever_the_outputs_mean() -> None:
    images, classes = random_images(2, SIZE), torch.tensor([1, 0])
    for score, network, names, gives in (
        ("binary", Head(1), ("no", "yes"), False),
        ("sigmoid", Head(2), ("a", "b"), False),
        ("softmax", Head(2, lambda z: z.softmax(1)), ("a", "b"), True),
        ("none", Head(2), ("unit 0", "unit 1"), False),
    ):
        classifier = classifier_of(network, score, names, gives_probabilities=gives)
        evaluator = BatchedEvaluator(classifier, images[0], 2)
        with torch.no_grad(), classifier.frozen():
            (attacked,) = FGSM([0.05]).levels(evaluator, images, classes)
            before, after = (classifier.facts.compute_probabilities(classifier(each)) for each in (images, attacked))
        rows = torch.arange(2)
        assert bool((after[rows, classes] < before[rows, classes]).all()), score


def test_the_gradient_of_a_binary_attack_is_that_of_two_logits() -> None:
    images, classes = random_images(2, SIZE), torch.tensor([1, 0])
    binary = classifier_of(Head(1), "binary", ("no", "yes"))
    pair = classifier_of(Head(1, lambda z: torch.cat([0 * z, z], 1)), "softmax", ("no", "yes"))
    gradients = [
        compute_loss_gradient(BatchedEvaluator(each, images[0], 2), images, classes) for each in (binary, pair)
    ]
    torch.testing.assert_close(*gradients)


def test_a_corrupted_image_of_several_labels_flips_when_any_label_does() -> None:
    classifier = classifier_of(Head(3), "sigmoid", ("cat", "dog", "car"))
    batch = batch_of(torch.tensor([[1, 0, 1]]))
    clean = CleanResults(batch, torch.tensor([[2.0, -1.0, 1.0]]), torch.tensor([0]), {})
    group = Group([CLEAN, CLEAN], batch.images[:, None])
    logits = torch.tensor([[[3.0, -1.0, 0.5], [2.0, -1.0, -1.0]]])
    same, flipped = (build_prediction_row(classifier.facts, clean, group, logits, 0, step) for step in range(2))
    assert (same["predicted"], same["flip"], same["correct"]) == ("cat, car", 0.0, 1.0)
    assert (flipped["predicted"], flipped["flip"], flipped["correct"]) == ("cat", 1.0, 0.0)


@pytest.mark.parametrize("kind", ["softmax", "log_softmax"])
def test_a_probability_that_rounds_to_1_is_said_to_decide_the_map(kind: str) -> None:
    """Behind a softmax of z_1 and z_2 the gradient is (1 - p)(w_1 - w_2); of p = 1 what is left is (p - 1) w_2."""

    def build(scale: float) -> Classifier:
        head = Head(2, lambda z: getattr(z * scale, kind)(1))
        classifier = classifier_of(head, "softmax", ("no", "yes")).float()
        classifier.facts = classifier.facts.replace({"gives_probabilities": kind == "softmax"})
        return classifier

    batch = batch_of(torch.tensor([-1]))._replace(images=random_images(1, SIZE).float())
    weights = weights_of(build(1.0)).double()
    odds = build(1.0).double().network.layer(batch.images.double().flatten(1))[0].detach()  # type: ignore[operator]
    target, other = (1, 0) if odds[1] > odds[0] else (0, 1)
    margin = float((odds[target] - odds[other]).abs())
    exact, rounded = (weights[target] - weights[other]).sum(0), -weights[other].sum(0)
    share = float((exact - rounded).norm() / torch.maximum(exact.norm(), rounded.norm()))
    for explainer in (InputXGradient(), IntegratedGradients(n_steps=32), Occlusion()):
        for scale, saturated in ((25 / margin, True), (5 / margin, False)):
            classifier = build(scale)
            with torch.inference_mode():  # as in the loop of a command
                (explanation,) = explain_batch(classifier, batch, answer(classifier, batch), explainer, "predicted")[0]
            said = [each for each in explanation.warnings if "so near 1 that single precision" in each]
            assert len(said) == (saturated and isinstance(explainer, InputXGradient)), (explainer.name, scale)
    classifier = build(25 / margin)
    (signed,) = explain_batch(classifier, batch, answer(classifier, batch), Saliency(reduction="sum"), "predicted")[0]
    assert any(f"rounding decides {100 * share:.0f} % of the map" in each for each in signed.warnings)
    double = build(25 / margin).double()
    (precise,) = explain_batch(double, batch, answer(double, batch), InputXGradient(), "predicted")[0]
    assert not any("single precision" in each for each in precise.warnings)


def test_a_network_that_double_precision_cannot_run_is_said_to_be_decided_by_rounding() -> None:
    def saturate(outputs: Tensor) -> Tensor:
        return torch.mm(outputs, torch.eye(2) * 1e4).softmax(1)  # single precision is written into it

    classifier = classifier_of(Head(2, saturate), "softmax", ("no", "yes")).float()
    classifier.facts = classifier.facts.replace({"gives_probabilities": True})
    batch = batch_of(torch.tensor([-1]))._replace(images=random_images(1, SIZE).float())
    explanations, _ = explain_batch(classifier, batch, answer(classifier, batch), Saliency(), "predicted")
    assert any("rounding decides 100 % of the map" in each for each in explanations[0].warnings)
