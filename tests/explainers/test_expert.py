"""Influence-directed explanations: closed forms on a linear network, special cases, data sets, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seewhy.core.errors import Incompatible, UserError
from seewhy.core.types import Batch, Targets
from seewhy.explainers.expert import Expert
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.influence.data_influence import DataInfluence, Slice, build_score_weights, compute_data_influence
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier, Passes
from tiny import classifier_of, random_images, small_cnn


def two_layers(size: int = 4, units: int = 5, classes: int = 3) -> tuple[Classifier, Tensor, Tensor]:
    """(classifier, V [units, 3, size, size], W [classes, units]): logits = W (V image) + bias, without a ReLU."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, units), nn.Linear(units, classes))
    classifier = classifier_of(network, size, classes, normalised=False, influence_layer="1")
    return classifier, network[1].weight.detach().view(units, 3, size, size), network[2].weight.detach()


def channels() -> Classifier:
    """A convolution to four channels, pooled and summed by a dense layer."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * 16, 3)
    )
    return classifier_of(network, 8, 3, influence_layer="1")


def batch_of(images: Tensor, labels: Tensor) -> Batch:
    names = [f"image {index}" for index in range(len(images))]
    return Batch(images, labels, names, names, names, [])


@pytest.mark.parametrize(("sign", "best"), [("positive", 1), ("negative", -1)])
def test_the_expert_of_a_linear_network_is_the_largest_weight(sign: str, best: int) -> None:
    classifier, first, second = two_layers()
    images, targets = random_images(3, 4), torch.tensor([0, 1, 2])
    found = Expert(sign=sign).attribute(classifier, images, targets)
    expected = (best * second).argmax(1)
    assert found.facts["expert"].tolist() == expected.tolist()
    torch.testing.assert_close(found.facts["influence"], second[torch.arange(3), expected])
    torch.testing.assert_close(found.maps, (images * first[expected]).sum(1))
    gradient = Expert(sign=sign, attribution="gradient")(classifier, images, targets)
    torch.testing.assert_close(gradient, first[expected].sum(1))


def test_an_absolute_expert_may_speak_against_and_says_so() -> None:
    classifier, _, second = two_layers()
    targets = torch.tensor([0, 1, 2])
    found = Expert(sign="absolute").attribute(classifier, random_images(3, 4), targets)
    chosen = second.abs().argmax(1)
    assert found.facts["expert"].tolist() == chosen.tolist()
    torch.testing.assert_close(found.facts["influence"], second[torch.arange(3), chosen])


def test_comparative_influence_is_the_difference_of_weights() -> None:
    classifier, _, second = two_layers()
    images, targets = random_images(3, 4), torch.tensor([0, 1, 2])
    found = Expert(against="class 2").attribute(classifier, images, targets)
    assert found.facts["expert"][:2].tolist() == (second[:2] - second[2]).argmax(1).tolist()
    assert not found.maps[2].any(), "a class against itself has no expert"
    runner_up = Expert(against="runner_up").attribute(classifier, images, targets)
    with torch.no_grad():
        logits = classifier(images)
    for row in range(3):
        other = max((c for c in range(3) if c != row), key=lambda c: float(logits[row, c]))
        best = (second[row] - second[other]).max()
        torch.testing.assert_close(runner_up.facts["influence"][row], best)


def test_on_the_input_the_point_is_the_gradient_and_the_path_integrated_gradients() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(3 * 16, 8), nn.Tanh(), nn.Linear(8, 3))
    classifier = classifier_of(network, 4, 3, normalised=False)
    images, targets = random_images(3, 4), torch.tensor([0, 1, 2])
    part, evaluator = Slice(classifier, "0", "mean"), BatchedEvaluator(classifier, images[0], 4)
    _, influence = part.compute_influence(evaluator, images, build_score_weights(Targets(targets), None, 3)[:, None])
    torch.testing.assert_close(influence[:, 0].sum(1), Saliency(reduction="sum")(classifier, images, targets))
    explainer = Expert(layer="0", distribution="path", n_steps=7, probe_batch_size=4)
    output, _ = part.compute_activations(evaluator, images)
    seen: list[Tensor] = []
    keep = Slice.reduce_to_units

    def units(self: Slice, values: Tensor, *rest: Any) -> Tensor:
        seen.append(values)
        return keep(self, values, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Slice, "reduce_to_units", units)
        with torch.no_grad(), classifier.frozen():
            explainer._compute_influence(evaluator, part, images, Targets(targets), None, output)
    expected = IntegratedGradients(n_steps=7)(classifier, images, targets)
    torch.testing.assert_close(seen[-1].sum(1), expected)


def test_the_map_of_the_expert_can_be_integrated_gradients_of_its_activation() -> None:
    classifier = small_cnn()
    images, targets = random_images(2, 32), torch.tensor([3, 7])
    found = Expert(attribution="integrated_gradients", n_steps=200, probe_batch_size=64).attribute(
        classifier, images, targets
    )
    part = Slice(classifier, None, "mean")
    start, _ = part.compute_activations(BatchedEvaluator(classifier, images[0], 8), torch.zeros_like(images))
    change = found.facts["activation"] - start[torch.arange(2), found.facts["expert"]]
    torch.testing.assert_close(found.maps.sum((1, 2)), change, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_channels_by_a_slow_twin(reduction: str) -> None:
    classifier = channels()
    images, targets = random_images(2, 8), torch.tensor([0, 2])
    found = Expert(reduction=reduction, probe_batch_size=1).attribute(classifier, images, targets)
    for row in range(2):
        image = images[row : row + 1].clone().requires_grad_()
        normalised = (image - classifier.mean) / classifier.std
        maps = classifier.network[1](classifier.network[0](normalised))
        maps.retain_grad()
        classifier.network[2:](maps)[0, targets[row]].backward(retain_graph=True)
        assert maps.grad is not None
        values = [maps.grad[0, channel] for channel in range(4)]
        influences = [float(value.mean() if reduction == "mean" else value.max()) for value in values]
        expert = max(range(4), key=influences.__getitem__)
        assert int(found.facts["expert"][row]) == expert
        assert float(found.facts["influence"][row]) == pytest.approx(influences[expert], rel=1e-5)
        activation = maps[0, expert].mean() if reduction == "mean" else maps[0, expert].max()
        (gradient,) = torch.autograd.grad(activation, image)
        torch.testing.assert_close(found.maps[row], (image * gradient).sum(1)[0].detach())


def test_a_unit_that_is_off_is_passed_over_and_counted() -> None:
    classifier = small_cnn()
    images, targets = random_images(6, 32), torch.arange(6)
    found = Expert().attribute(classifier, images, targets)
    assert bool((found.facts["activation"] > 0).all())
    assert bool(found.maps.flatten(1).any(1).all())
    weights = classifier.network.fc3.weight.detach()
    for row in range(6):
        larger = int((weights[row] > found.facts["influence"][row]).sum())
        assert int(found.facts["passed_over"][row]) == larger
    blank = Expert(alive=False).attribute(classifier, images, targets)
    assert blank.facts["expert"].tolist() == weights[:6].argmax(1).tolist()
    off = blank.facts["activation"] == 0
    assert bool(off.any())
    assert not blank.maps[off].any()


def test_one_pass_over_data_gives_every_class(tmp_path: Path) -> None:
    classifier = small_cnn()
    images, labels = random_images(9, 32), torch.tensor([0, 0, 0, 1, 1, 4, 4, 4, -1])
    part = Slice(classifier, "relu3", "mean")
    batches = [batch_of(images[:4], labels[:4]), batch_of(images[4:], labels[4:])]
    before = Passes(classifier.passes.forward, classifier.passes.backward)
    known = compute_data_influence(classifier, part, batches, probe_batch_size=3)
    assert classifier.passes.since(before) == Passes(9, 90)
    assert known.present.tolist() == [-1, 0, 1, 4]
    assert known.counts.tolist() == [1, 3, 2, 3]
    gradients = torch.zeros(9, 10, 120)
    for row in range(9):
        for score in range(10):
            weights = torch.zeros(1, 1, 10)
            weights[0, 0, score] = 1
            evaluator = BatchedEvaluator(classifier, images[0], 1)
            gradients[row, score] = part.compute_influence(evaluator, images[row : row + 1], weights)[1][0, 0]
    torch.testing.assert_close(known.average_class(4), gradients[5:8].mean(0))
    torch.testing.assert_close(known.average_dataset(), gradients.mean(0))
    with pytest.raises(UserError, match="no image of class 7"):
        known.average_class(7)
    path = tmp_path / "influences.safetensors"
    path.write_bytes(known.to_bytes())
    again = DataInfluence.read(path, classifier, part)
    torch.testing.assert_close(again.values, known.values)
    options: dict[str, Any] = {"layer": "relu3", "influences": str(path), "alive": False}
    targets = torch.tensor([0, 4])
    of_class = Expert(distribution="class", **options).attribute(classifier, images[:2], targets)
    expected = [int(gradients[:3, 0].mean(0).argmax()), int(gradients[5:8, 4].mean(0).argmax())]
    assert of_class.facts["expert"].tolist() == expected
    compared = Expert(distribution="dataset", against=1, **options).attribute(classifier, images[:2], targets)
    difference = (gradients[:, [0, 4]] - gradients[:, [1]]).mean(0)
    torch.testing.assert_close(compared.facts["influence"], difference.amax(1))
    with pytest.raises(UserError, match=r"another network or layer \(layer 'relu3', not 'relu4'\)"):
        Expert(distribution="class", influences=str(path))(classifier, images[:2], targets)


@pytest.mark.parametrize("options", [{"distribution": "path"}, {"attribution": "integrated_gradients"}])
def test_passes_along_a_path(options: dict[str, Any]) -> None:
    classifier, explainer = small_cnn(), Expert(n_steps=6, probe_batch_size=5, **options)
    explainer(classifier, random_images(2, 32), torch.tensor([3, 7]))
    forward, backward = explainer.passes_per_image()
    assert classifier.passes == Passes(2 * forward, 2 * backward)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduction": "sum"}, "reduction=sum must be mean or max"),
        ({"distribution": "dataset"}, "needs explainer.influences"),
        ({"distribution": "point"}, "distribution=point must be image, path, class or dataset"),
        ({"sign": "largest"}, "explainer.sign=largest must be positive"),
        ({"n_steps": 0}, "n_steps=0"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Expert(**options)


def test_impossible_networks_and_classes_are_refused() -> None:
    classifier, images, targets = small_cnn(), random_images(1, 32), torch.tensor([0])
    with pytest.raises(UserError, match="from 0 to 9"):
        Expert(against=10)(classifier, images, targets)
    with pytest.raises(UserError, match=r"explainer.against.*nearest"):
        Expert(against="class 99")(classifier, images, targets)
    classifier.influence_layer = None
    with pytest.raises(Incompatible, match="names no influence layer"):
        Expert()(classifier, images, targets)
    with pytest.raises(UserError, match="no layer 'relu9'"):
        Expert(layer="relu9")(classifier, images, targets)
