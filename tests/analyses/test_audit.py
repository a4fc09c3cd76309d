"""An audit names what a network uses besides the object, with its share and effect, and leaves the object alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from commands import composed
from seewhy.analyses.audit import report
from seewhy.analyses.audit.groups import (
    ALL,
    Group,
    Subject,
    compute_jaccard,
    embed,
    find_groups,
    list_subjects,
    reduce_points,
    split_line,
)
from seewhy.analyses.audit.interventions import Place, Statistics
from seewhy.analyses.audit.maps import APART, Facts, Reader, _pack, _unpack
from seewhy.analyses.audit.pictures import Rows
from seewhy.analyses.audit.proof import TESTS, Candidate, Measurement, Prover
from seewhy.analyses.audit.report import COLUMNS, LIKENESS, describe, describe_masks, draw_finding, write_row
from seewhy.analyses.audit.run import Audit, Result, from_plain, is_of_class, run_audit, to_plain
from seewhy.analyses.audit.verdict import Finding, judge
from seewhy.cli import tasks
from seewhy.core.errors import Incompatible, UserError
from seewhy.core.files import RunFolder
from seewhy.core.types import Batch
from seewhy.explainers.base import Explainer
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier
from tiny import classifier_of

SIZE, CLASSES, EACH = 16, 3, 60
SMALL = Audit(least=20, candidates=4, images=40, places=2, resamples=1)


class Cells(nn.Module):
    """Mean colours of 4x4 cells of 4 pixels; a class is a colour in the middle, the first also a white corner, or two.

    logit_c = object * (mean of channel c over the four middle cells) + [c = 0] corner * (mean of the bottom right cell)
    + [c = 0] second * (mean of the top left cell).
    """

    def __init__(self, corner: float, middle: float = 12.0, second: float = 0.0) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 3, 4, 4, bias=False)
        self.gate = nn.ReLU()
        self.head = nn.Linear(48, CLASSES)
        weights = torch.zeros(CLASSES, 3, 4, 4)
        for label in range(CLASSES):
            weights[label, label, 1:3, 1:3] = middle / 4
        weights[0, :, 3, 3] = corner / 3
        weights[0, :, 0, 0] = second / 3
        with torch.no_grad():
            self.cells.weight.copy_(torch.eye(3)[:, :, None, None].expand(-1, -1, 4, 4) / 16)
            self.head.weight.copy_(weights.flatten(1))
            self.head.bias.copy_(torch.tensor([-corner / 3 - 0.15 * second, 0.0, 0.0]))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.gate(self.cells(images)).flatten(1))
        return logits


def make_network(corner: float) -> Classifier:
    network = classifier_of(Cells(corner), SIZE, CLASSES, normalised=False, cam_layer="gate")
    network.weights_sha256 = f"corner {corner}"
    return network


def make_images(tagged: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(images, labels, whether each has the white corner): noise, and a colour in the middle."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    images = 0.3 * torch.rand(len(labels), 3, SIZE, SIZE, generator=generator)
    strength = 0.3 + 0.6 * torch.rand(len(labels), generator=generator)
    for image, label, bright in zip(images, labels.tolist(), strength, strict=True):
        image[label, 4:12, 4:12] += bright * torch.rand(8, 8, generator=generator)
    marks = (labels == 0) & (torch.arange(len(labels)) < tagged * EACH)
    images[marks, :, 12:, 12:] = 1.0
    return images.clamp(0, 1), labels, marks


def read(images: Tensor, labels: Tensor) -> Iterator[Batch]:
    for start in range(0, len(images), 50):
        rows = range(start, min(start + 50, len(images)))
        names = [f"image_{row:03d}" for row in rows]
        words = [f"class {labels[row]}" for row in rows]
        yield Batch(images[rows.start : rows.stop], labels[rows.start : rows.stop], names, names, words, [])


def choose_all(predicted: Rows) -> Rows:
    return np.arange(len(predicted))


def audit(network: Classifier, images: Tensor, labels: Tensor, folder: Path, how: Audit = SMALL) -> Result:
    return run_audit(how, network, InputXGradient(), read(images, labels), folder)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Classifier, Tensor, Tensor]:
    network, (images, labels, marks) = make_network(30.0), make_images(0.5)
    return audit(network, images, labels, tmp_path_factory.mktemp("audit")), network, images, marks


def test_a_corner_that_a_network_uses_is_named_with_its_images_its_share_and_its_effect(
    tagged: tuple[Result, Classifier, Tensor, Tensor],
) -> None:
    result, network, images, marks = tagged
    first = result.findings[0]
    assert first.proven
    assert len(result.shortcuts) == 1, [write_row(1, each) for each in result.shortcuts]
    assert (first.subject, first.target) == ("class 0", 0)
    assert first.members.tolist() == marks.nonzero().flatten().tolist()
    assert first.share[0] == 0.5
    assert first.share[1] < 0.5 < first.share[2]
    assert bool(first.region[12:, 12:].any())
    assert not bool(first.region[:8].any())
    white = images.clone()
    white[:, :, 12:, 12:] = 1.0
    with torch.no_grad():
        before, after = (network(each.double()).softmax(1)[EACH:, 0] for each in (images, white))
    assert first.rise[0] == pytest.approx(float((after - before).mean()), abs=0.05)
    assert first.follow == 1.0
    assert first.accuracy[0] == 1.0
    assert len(result.facts.maps) == len(images)


@pytest.mark.slow
def test_two_tags_that_some_images_share_are_two_shortcuts(tmp_path: Path) -> None:
    network = classifier_of(Cells(30.0, second=30.0), SIZE, CLASSES, normalised=False, cam_layer="gate")
    images, labels, _ = make_images(0.0)
    first = torch.arange(0, EACH, 2)
    second = torch.arange(EACH)[torch.arange(EACH) // 2 % 2 == 0]
    images[first, :, 12:, 12:] = 1.0
    images[second, :, :4, :4] = 1.0
    shortcuts = audit(network, images, labels, tmp_path, replace(SMALL, candidates=12)).shortcuts
    members = {tuple(each.members.tolist()) for each in shortcuts}
    assert members == {tuple(first.tolist()), tuple(second.tolist())}


@pytest.mark.slow
def test_a_corner_that_all_images_have_that_get_the_class_is_found_beside_those_that_do_not(tmp_path: Path) -> None:
    network = classifier_of(Cells(30.0, middle=0.0), SIZE, CLASSES, normalised=False, cam_layer="gate")
    images, labels, marks = make_images(0.8)
    result = audit(network, images, labels, tmp_path)
    whole = [each for each in result.findings if each.source == "all that are taken for it"]
    assert [each.subject for each in whole] == ["class 0"], "the other classes have no images that get another class"
    assert whole[0].proven
    assert whole[0].members.tolist() == marks.nonzero().flatten().tolist()
    assert whole[0].share[0] == pytest.approx(0.8)
    assert len(result.shortcuts) == 1


@pytest.mark.slow
def test_the_object_of_a_class_is_no_shortcut(tmp_path: Path) -> None:
    images, labels, _ = make_images(0.0)
    result = audit(make_network(0.0), images, labels, tmp_path)
    assert len(result.subjects) == CLASSES
    assert result.findings
    assert not any(each.proven for each in result.findings), [each.reason for each in result.findings]
    assert describe(result, ["a", "b", "c"])[0].startswith("no shortcut is proven")


@pytest.mark.slow
def test_a_corner_that_a_network_does_not_use_only_looks_odd(tmp_path: Path) -> None:
    images, labels, _ = make_images(0.5)
    result = audit(make_network(0.0), images, labels, tmp_path)
    assert not result.shortcuts
    assert all(each.reason for each in result.findings)


@pytest.mark.slow
def test_what_the_folder_holds_is_not_computed_again_and_changed_images_are(tmp_path: Path) -> None:
    images, labels, _ = make_images(0.5)
    few = Audit(least=20, candidates=2, images=20, places=1, resamples=1)
    first = audit(make_network(30.0), images, labels, tmp_path, few)
    network = make_network(30.0)
    again = audit(network, images, labels, tmp_path, few)
    proofs = sum(bool(each.effects) for each in first.findings)
    assert proofs
    assert again.before == (len(images), proofs)
    assert (network.passes.forward, network.passes.backward) == (0, 0), "nor are the first looks"
    assert [write_row(1, each) for each in again.findings] == [write_row(1, each) for each in first.findings]
    for file in (tmp_path / "audit").glob("look_*.json"):
        file.write_text('{"looks": [true]}')
    assert audit(make_network(30.0), images, labels, tmp_path, few).before == (len(images), proofs)
    images[0] = 1 - images[0]
    (tmp_path / "audit" / "batch_00001.npz").write_bytes(b"PK damaged")
    assert audit(make_network(30.0), images, labels, tmp_path, few).before == (len(images) - 100, 0)


@pytest.mark.slow
def test_another_network_method_label_or_mask_is_read_anew(tmp_path: Path) -> None:
    images, labels, _ = make_images(0.5)
    masks = torch.zeros(len(images), SIZE, SIZE, dtype=torch.bool)

    def count(corner: float = 30.0, first: int = 0, side: int = 8, explainer: Explainer | None = None) -> int:
        masks[:, :side, :side] = True
        labels[0] = first
        batches = (
            batch._replace(masks=masks[start : start + 50])
            for start, batch in zip(range(0, len(images), 50), read(images, labels), strict=True)
        )
        few = Audit(least=20, candidates=1, images=20, places=1, resamples=1)
        return run_audit(few, make_network(corner), explainer or InputXGradient(), batches, tmp_path).before[0]

    assert (count(), count()) == (0, len(images))
    assert count(corner=31.0) == 0
    assert count(corner=31.0, explainer=Saliency()) == 0
    assert count(corner=31.0, explainer=Saliency(), first=1) == len(images) - 50
    assert count(corner=31.0, explainer=Saliency(), first=1, side=9) == 0


def test_masks_of_any_width_wait_in_small() -> None:
    masks = torch.rand(3, 5, 11, generator=torch.Generator().manual_seed(0)) > 0.5
    batch = Batch(torch.rand(3, 3, 5, 11), torch.arange(3), ["a", "b", "c"], [""] * 3, [""] * 3, [], masks)
    packed = _pack(batch)
    assert len(packed.images) == 0
    assert packed.masks is not None
    assert packed.masks.numel() == 3 * 5 * 2
    some = _unpack(packed, np.array([0, 2]), batch.images[[0, 2]])
    assert some.masks is not None
    assert torch.equal(some.masks, masks[[0, 2]])
    assert (some.names, some.labels.tolist(), some.paths) == (["a", "c"], [0, 2], ["", ""])


def test_masks_tell_what_the_object_and_what_the_rest_is_worth(tmp_path: Path) -> None:
    """Half of the images of the first class have the corner, and the network takes nothing else for it."""
    images, labels, marks = make_images(0.5)
    network = make_network(30.0)
    masks = torch.zeros(len(images), SIZE, SIZE, dtype=torch.bool)
    masks[: EACH - 1, 4:12, 4:12] = True  # the last image of the class has no mask, nor have other classes
    masks[1] = True
    (batch,) = [Batch(images, labels, ["image"] * len(images), [""] * len(images), [""] * len(images), [], masks)]
    facts = Reader(network, InputXGradient(), RunFolder(tmp_path), "plan", "auto").read([batch], choose_all)[1]
    assert APART[1:] == tuple(f"{what}_without_{which}" for what in ("fall", "changes") for which in ("object", "rest"))
    assert np.isnan(facts.apart[[1, *range(EACH - 1, len(images))]]).all()
    around, *falls = facts.apart[[0, *range(2, EACH - 1)]].T
    assert around.tolist() == [0.75] * (EACH - 2)
    marked = marks[[0, *range(2, EACH - 1)]].numpy()
    assert np.abs(falls[0][marked]).max() < 0.01, "the corner says it all"
    assert falls[1][marked].mean() > falls[1][~marked].mean() + 0.2, "without it, it is the colour in the middle again"
    sentence = describe_masks(facts)[0]
    assert sentence.startswith(f"{EACH - 2} images with a mask: ")
    outside = facts.outside[np.isfinite(facts.apart).all(1)]
    assert f"{100 * outside.mean():.0f} % [" in sentence
    assert f"and {int(falls[2].sum())} images get another class" in sentence
    assert sentence.endswith(f"and {int(falls[3].sum())}")
    assert describe_masks(make_facts(20)) == []


def test_too_few_images_are_one_sentence(tmp_path: Path) -> None:
    images, labels, _ = make_images(0.0)
    with pytest.raises(UserError, match=r"there are 18 images, fewer than audit\.least=20"):
        audit(make_network(0.0), images[::10], labels[::10], tmp_path)
    with pytest.raises(UserError, match="no image could be read"):
        audit(make_network(0.0), images[:0], labels[:0], tmp_path)


def test_a_method_that_refuses_the_network_does_so_before_all_images_are_read(tmp_path: Path) -> None:
    def read_one() -> Iterator[Batch]:
        images, labels, _ = make_images(0.0)
        yield next(read(images, labels))
        raise AssertionError("a second batch was read")

    class Refusing(InputXGradient):
        def attribute(self, *given: object) -> NoReturn:
            raise Incompatible("it cannot")

    with pytest.raises(Incompatible, match="it cannot"):
        run_audit(SMALL, make_network(0.0), Refusing(), read_one(), tmp_path)


@pytest.mark.slow
def test_images_of_many_classes_are_looked_at_together_and_nothing_is_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels, _ = make_images(0.5)
    printed: list[str] = []
    explain = Reader._explain
    monkeypatch.setattr(Reader, "_explain", lambda *given: printed.append(capsys.readouterr().out) or explain(*given))
    network = make_network(30.0)
    result = audit(network, images[::3], labels[::3], tmp_path, Audit(least=50, images=20, resamples=1))
    said = "".join(printed[:2])
    assert "no class is predicted for 50 of the 60 images" in said, "before any map but one that tries the method"
    assert "50 of them, evenly spread" in said
    assert "at most 1,920 further forward passes" in said
    assert (len(result.pictures), len(result.facts.labels), result.whole) == (50, 50, 60)
    rows = np.linspace(0, 59, 50).round().astype(int)
    assert result.pictures.names == [f"image_{row:03d}" for row in rows]
    assert torch.equal(result.pictures.gather([5]), images[::3][rows[[5]]])
    assert result.facts.labels.tolist() == labels[::3][rows].tolist()
    assert network.passes.forward <= 60 + 2 * 51 + 1920
    assert [(each.name, each.target) for each in result.subjects] == [("all images", ALL)]
    assert not result.shortcuts
    assert {"of many classes" in each.reason or "at random places" in each.reason for each in result.findings} == {True}
    matters = [each for each in result.findings if each.effects["removed"][1] > 0]
    assert matters
    assert all(list(each.effects) == ["removed"] and np.isnan(each.rise[0]) for each in result.findings)
    assert len(describe(result, ["a", "b", "c"])) == 1 + len(matters)
    assert result.findings[0].fall[0] > 0.2, "the object in the middle, or the corner"
    assert {write_row(1, each)["verdict"] for each in result.findings} == {"not provable"}
    drawn: list[str] = []
    monkeypatch.setattr(report, "wrap", lambda text, *_: drawn.append(text) or [text])
    draw_finding(1, result.findings[0], result, make_network(30.0))
    assert drawn[0].startswith("1. all images: evidence at one place, ")
    assert drawn[1].startswith("share of the images ")
    assert not any("nan" in text for text in drawn)


def make_facts(count: int, seed: int = 0) -> Facts:
    generator = np.random.default_rng(seed)
    maps = generator.random((count, 16, 16))
    maps[: count // 4, 14:, 14:] += 40
    maps /= maps.sum((1, 2), keepdims=True)
    probabilities = np.eye(2)[np.zeros(count, int)]
    labels = np.zeros(count, np.int64)
    apart = np.full((count, len(APART)), np.nan)
    return Facts(maps, generator.random((count, 6)), probabilities, np.full(count, np.nan), labels, apart)


@pytest.mark.slow
def test_maps_in_a_corner_are_the_first_group() -> None:
    facts = make_facts(80)
    small = torch.rand(80, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    small[:20, :, 14:, 14:] = 1.0
    groups = find_groups(facts, np.arange(80), small, 5, 3, 0)
    assert groups[0].members.tolist() == list(range(20))
    assert groups[0].border > 1.5
    assert groups[0].stability > 0.8
    assert groups[0].tightness < 1
    assert len(groups) <= 5
    assert all(compute_jaccard(groups[0].members, each.members) < 0.7 for each in groups[1:])
    assert set(embed(facts, np.arange(80), small)) == set(LIKENESS)
    again = find_groups(facts, np.arange(80), small, 5, 3, 0)
    assert [each.members.tolist() for each in again] == [each.members.tolist() for each in groups]


@pytest.mark.parametrize("width", [6, 300])
def test_embeddings_are_principal_components(width: int) -> None:
    points = np.random.default_rng(0).normal(size=(40, width)) * np.arange(1, width + 1)
    ours = reduce_points(points)
    expected = PCA(min(10, width), svd_solver="full").fit_transform(points)
    np.testing.assert_allclose(np.abs(ours), np.abs(expected), atol=1e-9 * np.abs(expected).max())
    assert not reduce_points(np.ones((40, width))).any()


def test_numbers_are_split_where_they_differ_least_within() -> None:
    assert split_line(np.array([5.0, 0.0, 4.0, 0.5, 0.2])).tolist() == [1, 0, 1, 0, 0]
    values = np.random.default_rng(0).normal(size=30)
    sides = split_line(values)

    def within(labels: Rows) -> float:
        return sum(float(values[labels == side].var() * (labels == side).sum()) for side in (0, 1))

    cuts = np.sort(values)[:-1]
    assert within(sides) == pytest.approx(min(within((values > cut).astype(np.int64)) for cut in cuts))


def test_classes_and_confusions_with_enough_images_are_looked_at() -> None:
    probabilities = np.eye(3)[[0] * 30 + [1] * 25 + [2] * 5]
    labels = np.array([0] * 8 + [1] * 22 + [1] * 25 + [-1] * 5)
    facts = Facts(np.ones((60, 2, 2)), np.ones((60, 1)), probabilities, np.ones(60), labels, np.ones((60, 5)))
    subjects = list_subjects(facts, ["a", "b", "c"], 20)
    assert [(each.name, each.target, len(each.rows), len(each.context)) for each in subjects] == [
        ("a", 0, 30, 30),
        ("b", 1, 25, 47),
        ("b taken for a", 0, 22, 47),
    ]


def test_a_group_of_the_class_is_held_against_images_of_the_class() -> None:
    facts = make_facts(60)
    facts.labels[40:] = 1
    subject = Subject("a", 0, np.arange(50), np.arange(60))

    def choose(*members: int) -> bool:
        return is_of_class(subject, Group(np.array(members), "", 1.0, 1.0, 1.0, 1.0), facts)

    assert choose(*range(12), *range(40, 50)), "12 of 22 are"
    assert not choose(*range(10), *range(40, 50)), "half of them are no majority"
    assert not choose(*range(7)), "too few"
    assert not choose(*range(40)), "none of the class is left to hold it against"


def make_candidate(members: list[int], look: float = 0.9, spread: float = 1.0) -> Candidate:
    group = Group(np.array(members), "position, spectral", 1.0, 0.5, 2.0, 3.0)
    means = Statistics(*(torch.full((3, 4, 4), value) for value in (0.9, 0.5, 0.4)))
    place = Place(torch.ones(4, 4, dtype=torch.bool), means, 0)
    return Candidate(group, np.array(members), (len(members), 40), place, look, spread)


def judge_one(
    removed: float, placed: float, rest: float, control: float, others: int = 0, copies: float = 1.0
) -> list[Finding]:
    spread = np.linspace(-0.1, 0.1, 30)
    differences = {
        key: (value + spread).tolist() for key, value in zip(TESTS, (removed, placed, rest, control), strict=True)
    }
    measurement = Measurement(differences, [0.9] * 30, [0.5] * 30, (27, 30), (30, 20, 30))
    subject = Subject("class 0", 0, np.arange(40), np.arange(40))
    tried = [(subject, make_candidate(list(range(20)), spread=copies), measurement)]
    tried += [(subject, make_candidate(list(range(20, 40)), 0.01), None)] * others  # type: ignore[list-item]
    return judge(tried, make_facts(40), 0.2, 0)


def test_only_what_passes_all_four_tests_is_a_shortcut() -> None:
    found = judge_one(0.4, 0.9, 0.8, 0.7)[0]
    assert found.proven
    assert not found.reason
    assert found.effect == pytest.approx(0.7)
    assert found.follow == 0.9
    assert found.accuracy == (1.0, pytest.approx(2 / 3))
    assert (found.share[0], found.outside != found.outside) == (0.5, True)
    for values, words in (
        ((0.0, 0.9, 0.8, 0.7), "removed from its own"),
        ((0.4, 0.0, 0.8, 0.7), "at random places"),
        ((0.4, 0.9, 0.0, 0.7), "that is the class itself"),
        ((0.4, 0.9, 0.8, -0.1), "another class as much"),
        ((0.4, 0.9, 0.19, 0.7), "audit.effect=0.2"),
    ):
        reason = judge_one(*values)[0].reason
        assert words in reason
    assert "copies of one picture" in judge_one(0.4, 0.9, 0.8, 0.7, copies=0.4)[0].reason
    assert judge_one(0.4, 0.9, 0.8, 0.7, others=3)[0].p_holm == pytest.approx(4 * found.p)
    assert not judge_one(0.4, 0.9, 0.8, 0.7, others=3000)[0].proven, "corrected also for what a first look ended"
    assert [each.proven for each in judge_one(0.4, 0.9, 0.8, 0.7, others=2)] == [True, False, False]


@pytest.mark.parametrize(
    ("alone", "same_as"),
    [pytest.param(0.5, 0, id="own"), pytest.param(0.1, 1, id="small"), pytest.param(None, 1, id="few")],
)
def test_a_group_that_has_no_effect_without_the_images_of_a_stronger_one_is_the_same(
    alone: float | None, same_as: int
) -> None:
    subject, asked = Subject("class 0", 0, np.arange(40), np.arange(40)), []

    def measure(value: float) -> Measurement:
        differences = {key: (value + np.linspace(-0.05, 0.05, 30)).tolist() for key in TESTS}
        return Measurement(differences, [0.9] * 30, [0.5] * 30, (27, 30), (30, 20, 30))

    def set_apart(of: Subject, candidate: Candidate, without: Rows) -> Measurement | None:
        asked.append((candidate.members.tolist(), without.tolist()))
        return None if alone is None else measure(alone)

    members = [range(20), range(15, 35), range(36, 40)]
    tried = [
        (subject, make_candidate(list(rows)), measure(value))
        for rows, value in zip(members, (0.8, 0.7, 0.6), strict=True)
    ]
    findings = judge(tried, make_facts(40), 0.2, 0, set_apart)
    assert [each.same_as for each in findings] == [0, same_as, 0]
    assert asked == [(list(range(15, 35)), list(range(20)))], "only what shares images is measured again"


def test_images_of_a_stronger_group_are_left_out_on_both_sides(tmp_path: Path) -> None:
    network, (images, labels, _) = make_network(30.0), make_images(0.5)
    pictures, facts = Reader(network, InputXGradient(), RunFolder(tmp_path), "", 50).read(
        read(images, labels), choose_all
    )
    prover = Prover(BatchedEvaluator(network, images[0], 50), pictures, facts, 40, 2, 0)
    subject = Subject("class 0", 0, np.arange(EACH), np.arange(EACH))
    candidate = make_candidate(list(range(12, 40)))
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[12:, 12:] = True
    candidate = replace(candidate, shared=replace(candidate.shared, mask=mask))
    alone = prover.set_apart(subject, candidate, np.arange(30))
    assert alone is not None
    assert alone.members.tolist() == list(range(30, 40))
    assert isinstance(alone.shared, Place)
    assert torch.equal(alone.shared.mask, mask)
    torch.testing.assert_close(alone.shared.means.members, images[30:40].mean(0))
    torch.testing.assert_close(alone.shared.means.rest, images[40:EACH].mean(0))
    assert prover.set_apart(subject, candidate, np.arange(33)) is None


def test_a_damaged_proof_does_not_count() -> None:
    whole = Measurement({key: [0.1, 0.2] for key in TESTS}, [0.3], [0.4], (1, 2), (2, 1, 2))
    plain = json.loads(json.dumps(to_plain(whole)))
    assert from_plain(plain) == whole
    for key in plain:
        assert from_plain({name: value for name, value in plain.items() if name != key}) is None
        assert from_plain(plain | {key: "word"}) is None


def run_command(folder: Path, *overrides: str) -> dict[str, object]:
    given = ["trainer=cpu", "logger=[]", "hydra.mode=RUN", f"output={folder}", *overrides]
    tasks.execute(tasks.TASKS["audit"], composed("audit", given))
    record: dict[str, object] = json.loads((folder / "run.json").read_text())
    return record


TRAINED = (
    *("model=linear", "model.size=16", "model.arguments.side=16", "explainer=input_x_gradient", "optimization.lr=0.03"),
    *("ground_truth=[tag]", "ground_truth.tag.shares=[0.5]", "ground_truth.tag.steps=100", "audited=180"),
    *("ground_truth.tag.names=[airplane,frog,ship]", "audit.least=20", "audit.candidates=4", "audit.images=40"),
    *("audit.resamples=1", "ground_truth.tag.label_noise=0.8", "audit.effect=0.1"),
)


@pytest.mark.slow
def test_the_command_trains_on_tagged_images_finds_the_tag_and_fails_where_it_is_asked_to(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        run_command(tmp_path / "run", *TRAINED, "audit.fail_on=0.15")
    assert stop.value.code == 3
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "completed"
    assert record["shortcuts"] >= 1
    assert record["planted"]["look"] == "mark"
    with (tmp_path / "run" / "shortcuts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    first = next(
        row for row in rows if row["class"] == "airplane"
    )  # what else so small a network uses depends on rounding
    assert first["verdict"] == "shortcut"
    assert float(first["share_low"]) <= 0.5 <= float(first["share_high"])
    with (tmp_path / "run" / "files_to_check.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) >= int(first["images"])
    assert (tmp_path / "run" / "figures" / "group_01.png").stat().st_size > 1000
    assert "proven, of" in (tmp_path / "run" / "audit.md").read_text()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "What it uses besides the object" in page
    assert "<script" not in page
    cell = ", ".join(f"{float(first[f'rise{end}']):.2f}" for end in ("_low", "_high"))
    assert f">{float(first['rise']):.2f} [{cell}]<" in page, "two decimals"
    assert '<div class="command"><pre' in page, "its lines are broken where the page ends"
    assert not (tmp_path / "run" / "audit" / "pixels.npy").exists()
    before = (tmp_path / "run" / "audit.csv").read_bytes()
    with pytest.raises(SystemExit):
        run_command(tmp_path / "run", *TRAINED, "audit.fail_on=0.15")
    again = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (again["images_done_before"], again["passes"]["backward"]) == (180, 0)
    assert (tmp_path / "run" / "audit.csv").read_bytes() == before


@pytest.mark.slow
def test_the_command_audits_a_network_as_it_is(tmp_path: Path) -> None:
    few = ["model=cifar_cnn", "audit.least=20", "audit.images=20", "audit.resamples=1", "model.weights=random"]
    record = run_command(tmp_path / "run", *few)
    assert (record["status"], record["images"]) == ("completed", 60)
    assert record["model"]["weights"] == "random (seed 0)"  # type: ignore[index]
    assert (tmp_path / "run" / "audit.csv").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("model=cifar_cnn", "data.limit=30"), "there are 30 images, fewer than audit.least=40"),
        (("model=cifar_cnn", "audit.least=3"), "audit.least=3 must be"),
        (("model=cifar_cnn", "ground_truth=[tag]"), "one share"),
        (("model=cifar_cnn", "optimization.lr=0.1"), "optimization.lr=0.1 is read where a network is trained"),
        (("model=cifar_cnn", "ground_truth=[suppressor]"), "one kind of tag"),
        (("model=cifar_cnn", "model.score=sigmoid"), "needs a network with model.score=softmax or binary"),
    ],
)
def test_what_cannot_be_audited_is_one_sentence(
    overrides: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_command(tmp_path / "run", *overrides)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err
