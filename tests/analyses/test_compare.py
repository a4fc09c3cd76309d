"""Two networks are held against a noise band: the same one passes, another one fails, and the exit code says it."""

from __future__ import annotations

import copy
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from commands import composed
from seewhy.analyses.compare.measure import FEWEST, MARGIN, Pair, compare_networks, judge
from seewhy.api import load_classifier
from seewhy.cli import tasks
from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.types import Batch
from seewhy.data.folder import Samples
from seewhy.explainers.controls import Edges
from seewhy.explainers.gradient import Saliency
from seewhy.models.classifier import Classifier


def read(facts: Facts) -> Iterator[Batch]:
    data = Samples(facts=facts, limit=10)
    data.setup()
    yield from data.test_dataloader()


@pytest.fixture(scope="module")
def network() -> Classifier:
    return load_classifier("cifar_cnn")


def make_pair(agreement: float, band: float) -> Pair:
    empty = torch.zeros(0)
    return Pair("image", "cat", "cat", "cat", (True, True), agreement, band, empty, empty)


def test_a_network_agrees_with_itself_wholly(network: Classifier) -> None:
    pairs = [pair for batch in compare_networks(network, network, Saliency(), read) for pair in batch]
    assert [pair.agreement for pair in pairs] == pytest.approx([1] * 10, abs=1e-12)
    assert all(0 < pair.band < 1 for pair in pairs)
    assert judge(pairs).passed is True
    assert all(torch.equal(*pair.maps) and pair.first == pair.second for pair in pairs)


@pytest.mark.slow
def test_a_map_that_does_not_look_at_the_network_has_one_band_and_one_agreement(network: Classifier) -> None:
    other = load_classifier("cifar_cnn", overrides=["model.weights=random"])
    pairs = [pair for batch in compare_networks(network, other, Edges(), read) for pair in batch]
    assert [pair.agreement for pair in pairs] == pytest.approx([1] * 10, abs=1e-12)


@pytest.mark.slow
def test_the_band_is_the_agreement_with_a_third_network(network: Classifier) -> None:
    other = load_classifier("cifar_cnn", overrides=["model.weights=random"])
    pairs = [pair for batch in compare_networks(network, other, Saliency(), read, band=other) for pair in batch]
    assert [pair.band for pair in pairs] == [pair.agreement for pair in pairs]
    verdict = judge(pairs)
    assert verdict.passed is True
    assert verdict.gap == 0


@pytest.mark.slow
def test_the_noise_belongs_to_the_image_not_to_its_place(network: Classifier) -> None:
    def read_reversed(facts: Facts) -> Iterator[Batch]:
        for batch in reversed(list(read(facts))):
            yield Batch(batch.images.flip(0), batch.labels.flip(0), batch.names[::-1], batch.paths[::-1],
                        batch.label_names[::-1], [])  # fmt: skip

    forwards = [pair for batch in compare_networks(network, network, Saliency(), read) for pair in batch]
    backwards = [pair for batch in compare_networks(network, network, Saliency(), read_reversed) for pair in batch]
    assert [pair.name for pair in backwards] == [pair.name for pair in forwards][::-1]
    assert [pair.band for pair in backwards] == pytest.approx([pair.band for pair in forwards][::-1], abs=1e-6)


def test_other_classes_are_refused(network: Classifier) -> None:
    other = copy.copy(network)
    other.facts = network.facts.replace({"classes": network.facts.classes[::-1]})
    with pytest.raises(UserError, match="other classes"):
        list(compare_networks(network, other, Saliency(), read))


@pytest.mark.parametrize(
    ("gaps", "passed"),
    [
        ([-0.3, -0.25, -0.35, -0.3, -0.28, -0.32], False),
        ([0.1, -0.1, 0.05, -0.05, 0.1, -0.1], True),
        ([-0.9 * MARGIN] * 8, True),
        ([-1.1 * MARGIN] * 8, False),
        ([-0.3] * (FEWEST - 1), None),
        ([math.nan] * 8, None),
    ],
)
def test_only_what_is_shown_to_be_lower_than_the_band_fails(gaps: list[float], passed: bool | None) -> None:
    verdict = judge([make_pair(0.5 + gap, 0.5) for gap in gaps])
    assert verdict.passed is passed
    finite = [gap for gap in gaps if math.isfinite(gap)]
    assert verdict.images == len(finite)
    if finite:
        assert verdict.gap == pytest.approx(sum(finite) / len(finite))


@pytest.mark.slow
def test_the_command_says_by_its_exit_code_whether_the_reasons_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["a=model/cifar_cnn", "explainer=saliency", "data.limit=10", "trainer=cpu", "hydra.mode=RUN"]
    tasks.execute(tasks.TASKS["compare"], composed("compare", [*given, "cast=float16", f"output={tmp_path / 'same'}"]))
    printed = capsys.readouterr().out
    assert "passed" in printed and "as band=" not in printed
    rounded = json.loads((tmp_path / "same" / "run.json").read_text())
    assert rounded["a"]["weights_sha256"] != rounded["b"]["weights_sha256"]
    cfg = composed("compare", [*given, "b=vgg16_cifar", f"output={tmp_path / 'other'}"])
    with pytest.raises(SystemExit) as stop:
        tasks.execute(tasks.TASKS["compare"], cfg)
    assert stop.value.code == 3
    printed = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "other" / "compare.md").read_text()
    assert "failed" in printed and "as band=" in printed and "as band=" in page, "held against its own noise"
    assert "as band=" not in (tmp_path / "same" / "compare.md").read_text()
    record = json.loads((tmp_path / "other" / "run.json").read_text())
    assert (record["status"], record["passed"], record["images"]) == ("completed", False, 10)
    with (tmp_path / "other" / "compare.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 10
    assert (tmp_path / "other" / "changed.png").stat().st_size > 1000
    for name, words in (("b=/none.pt", "none.pt"), ("b=null", "two networks"), (f"b={tmp_path}", "run folder")):
        with pytest.raises(SystemExit) as stop:
            tasks.execute(tasks.TASKS["compare"], composed("compare", [*given, name, f"output={tmp_path / 'no'}"]))
        assert stop.value.code == 2
        assert words in capsys.readouterr().err
