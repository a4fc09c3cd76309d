"""The doctor names a planted fault, finds nothing in a healthy network, and leaves the network as it was."""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from commands import composed
from seewhy.analyses.doctor import alternatives, examination, network_checks
from seewhy.analyses.doctor.alternatives import Alternative, prepare
from seewhy.analyses.doctor.examination import NOTHING, Examination, examine
from seewhy.api import load_classifier
from seewhy.cli import tasks
from seewhy.core.facts import Facts
from seewhy.core.types import Batch
from seewhy.data.folder import Samples
from seewhy.models.classifier import Classifier


def read(facts: Facts) -> Iterator[Batch]:
    """The samples of CIFAR-10 with indices in its own order."""
    data = Samples(facts=facts)
    data.setup()
    yield from data.test_dataloader()


@pytest.fixture(scope="module")
def healthy() -> Classifier:
    return load_classifier("cifar_cnn")


def shift_labels(facts: Facts) -> Iterator[Batch]:
    for batch in read(facts):
        yield batch._replace(labels=(batch.labels + 1) % 10)


def hide_labels(facts: Facts) -> Iterator[Batch]:
    for batch in read(facts):
        yield batch._replace(labels=torch.full_like(batch.labels, -1))


def reverse(network: nn.Module) -> None:
    network.conv1.weight.data = network.conv1.weight.data.flip(1)


def stretch(network: nn.Module) -> None:
    network.fc3.weight.data *= 1000
    network.fc3.bias.data *= 1000


def kill(network: nn.Module) -> None:
    network.conv2.weight.data.zero_()


def forget(network: nn.Module) -> None:
    torch.manual_seed(0)
    network.fc3.reset_parameters()


PLANTED: dict[str, Callable[[nn.Module], None]] = {
    alternatives.ORDER: reverse,
    "saturated probabilities": stretch,
    "dead layer": kill,
    "random head": forget,
}


def examine_copy(healthy: Classifier, plant: Callable[[nn.Module], None] | None, **facts: object) -> Examination:
    network = copy.deepcopy(healthy.network)
    if plant is not None:
        plant(network)
    return examine(Classifier(network, healthy.facts.replace(facts), name="copy"), read, 16)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", PLANTED)
def test_a_fault_inside_of_the_network_is_named(healthy: Classifier, wanted: str) -> None:
    found = examine_copy(healthy, PLANTED[wanted]).diagnosis
    assert found is not None
    assert found.name == wanted
    assert found.setting


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "facts"),
    [
        (alternatives.NORMALISATION, {"mean": (1.0,) * 3}),
        (alternatives.CROP, {"crop": 0.4}),
    ],
)
def test_wrong_preprocessing_is_named_with_what_mends_it(
    healthy: Classifier, wanted: str, facts: dict[str, object]
) -> None:
    result = examine_copy(healthy, None, **facts)
    found = result.diagnosis
    assert found is not None
    assert found.name == wanted
    assert "model." in found.setting
    assert [each.name for each in result.checks if each.is_wrong].count(wanted) == 1


def test_nothing_is_found_in_a_healthy_network_which_stays_as_it_was(healthy: Classifier) -> None:
    before = {key: value.clone() for key, value in healthy.state_dict().items()}
    result = examine(healthy, read, 16)
    assert result.diagnosis is None
    assert result.describe() == NOTHING
    assert (result.images, result.labelled) == (60, 60)
    assert all(torch.equal(value, before[key]) for key, value in healthy.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in healthy.modules())
    assert result.accuracy == pytest.approx(38 / 60)


@pytest.mark.slow
def test_each_image_passes_once_for_each_alternative_and_its_layers_are_seen_then(
    healthy: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the maps, which are left out here."""
    passed: list[int] = []
    answered: list[int] = []
    original = examination.ways.answer_all

    def answer(*given: object) -> dict[str, alternatives.Answers]:
        answers = original(*given)  # type: ignore[arg-type]
        answered.append(sum(len(each.predicted) for each in answers.values()))
        return answers

    monkeypatch.setattr(examination.ways, "answer_all", answer)
    monkeypatch.setattr(examination, "_check_maps", lambda *given: [])
    handle = healthy.network.register_forward_hook(lambda module, inputs, output: passed.append(len(output)))
    result = examine(healthy, read, 16)
    handle.remove()
    assert [sum(passed)] == answered
    assert next(each for each in result.checks if each.name == "dead layer").is_wrong is False
    assert "class means of its inputs are right" in next(e for e in result.checks if e.name == "random head").evidence


@pytest.mark.slow
def test_shifted_labels_are_told_from_a_random_head(healthy: Classifier) -> None:
    found = examine(healthy, shift_labels, 16).diagnosis
    assert found is not None
    assert found.name == alternatives.LABELS
    assert "next index" in found.evidence


@pytest.mark.slow
def test_without_labels_the_preprocessing_of_a_network_without_normalisation_layers_is_not_told(
    healthy: Classifier,
) -> None:
    result = examine(healthy, hide_labels, 16)
    by_name = {each.name: each for each in result.checks}
    assert result.labelled == 0
    assert by_name[alternatives.NORMALISATION].is_wrong is None
    assert by_name[alternatives.LABELS].is_wrong is None
    assert result.diagnosis is None


@pytest.mark.slow
def test_without_labels_the_statistics_of_batch_normalisation_decide() -> None:
    shipped = load_classifier("vgg16_cifar")
    facts = shipped.facts.replace({"mean": (0.0,) * 3, "std": (1 / 255,) * 3})
    found = examine(Classifier(shipped.network, facts, name="raw"), hide_labels, 32).diagnosis
    assert found is not None
    assert found.name == alternatives.NORMALISATION


def test_the_prepared_image_is_what_the_other_normalisation_would_give() -> None:
    own = Facts(("a", "b"), 4, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    images = torch.rand(2, 3, 4, 4, dtype=torch.float64)

    def normalise(values: Tensor, facts: Facts) -> Tensor:
        mean, std = (torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (facts.mean, facts.std))
        return (values - mean) / std

    for is_reversed in (False, True):
        other = Alternative("", "", "", own.replace({"mean": (0.4, 0.4, 0.5), "std": (0.2, 0.3, 0.4)}), is_reversed)
        wanted = normalise(images, other.facts)
        wanted = wanted.flip(1) if is_reversed else wanted
        assert torch.allclose(normalise(prepare(images, own, other), own), wanted, rtol=0, atol=1e-12)


def test_no_alternative_is_what_the_classifier_has() -> None:
    for facts in (Facts(("a",) * 10, 32, (0.5,) * 3, (0.5,) * 3), Facts(("a", "b"), (40, 60), (0.0,), (1.0,), 0.875)):
        listed = alternatives.list_alternatives(facts)
        assert all(each.facts != facts or each.reversed for each in listed)
        assert len({each.name for each in listed}) == len(listed)
        assert any(each.cause == alternatives.ORDER for each in listed) == (facts.channels == 3)


@pytest.mark.slow
def test_weights_are_told_from_those_of_an_initialisation() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(300, 100), nn.Conv2d(64, 64, 3), nn.Conv2d(3, 64, 7)]
    assert all(network_checks.looks_untrained(layer.weight) for layer in layers)
    nn.init.trunc_normal_(layers[0].weight, std=0.02)
    nn.init.kaiming_normal_(layers[1].weight, mode="fan_out")
    assert all(network_checks.looks_untrained(layer.weight) for layer in layers)
    for layer in layers:
        assert not network_checks.looks_untrained(layer.weight + 0.5 * layer.weight.abs().max())
        assert not network_checks.looks_untrained(30 * layer.weight)
    assert not network_checks.looks_untrained(torch.zeros(100, 100))
    assert not network_checks.looks_untrained(torch.rand(4, 4))


def test_the_class_means_are_those_of_the_other_images() -> None:
    """Two classes apart along one axis; an image alone in its class and one without label have no value."""
    features = torch.tensor([[0.0, 1.0], [0.1, 1.0], [5.0, -1.0], [5.1, -1.0], [2.0, 3.0], [0.0, 1.0]])
    labels = np.array([0, 0, 1, 1, 2, -1])
    right = network_checks.measure_feature_accuracy(features, labels)
    assert right[:4].tolist() == [1, 1, 1, 1]
    assert np.isnan(right[4:]).all()
    swapped = network_checks.measure_feature_accuracy(features, np.array([0, 1, 0, 1, 2, -1]))
    assert np.nanmean(swapped) < 1


def test_statistics_of_the_batch_are_those_of_training_mode_and_nothing_changes() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double().eval()
    images = torch.rand(5, 3, 8, 8, dtype=torch.float64)
    assert network_checks.keeps_initial_statistics(network)
    with network_checks.with_batch_statistics(network):
        seen = network(images)
    assert network_checks.keeps_initial_statistics(network)
    assert torch.allclose(seen, copy.deepcopy(network).train()(images), rtol=0, atol=1e-12)
    network.train()(images)
    assert not network_checks.keeps_initial_statistics(network)


def test_a_layer_that_forgets_the_image_is_the_first_dead_one() -> None:
    facts = Facts(("a", "b", "c"), 8, (0.0,) * 3, (1.0,) * 3)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    classifier = Classifier(network, facts, name="tiny")
    network[0].bias.data.fill_(-1000)
    inspection = network_checks.Inspection()
    with inspection.watching(classifier), torch.no_grad():
        classifier(torch.rand(3, 3, 8, 8))
    assert inspection.find_dead_layer() == "1"
    assert inspection.head == "3"
    assert not any(module._forward_hooks for module in classifier.modules())


@pytest.mark.slow
def test_the_command_leaves_table_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["model=cifar_cnn", "trainer=cpu", "data.limit=20", f"output={tmp_path / 'run'}", "hydra.mode=RUN"]
    tasks.execute(tasks.examine, composed("doctor", given))
    with (tmp_path / "run" / "doctor.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["check"] for row in rows] == [
        each.name for each in examine(load_classifier("cifar_cnn"), read, 16).checks
    ]
    assert {row["outcome"] for row in rows} <= {"ok", "not told"}
    assert f"Diagnosis: {NOTHING}" in (tmp_path / "run" / "doctor.md").read_text()
    assert f"diagnosis: {NOTHING}" in capsys.readouterr().out
    assert examination.NOTHING in (tmp_path / "run" / "run.json").read_text()
