"""An audit names what a network uses besides the object, with its share and effect, and leaves the object alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from commands import composed
from seewhy.analyses.audit.groups import ALL, Group, Subject, compute_jaccard, embed, find_groups, list_subjects
from seewhy.analyses.audit.interventions import (
    Cast,
    Pattern,
    Place,
    Statistics,
    choose_place,
    measure_deviation,
    measure_spread,
    refine_members,
)
from seewhy.analyses.audit.maps import Facts, Reader, average_cells
from seewhy.analyses.audit.proof import TESTS, Candidate, Measurement
from seewhy.analyses.audit.report import COLUMNS, describe, write_row
from seewhy.analyses.audit.run import Audit, Result, from_plain, run_audit, to_plain
from seewhy.analyses.audit.verdict import Finding, judge
from seewhy.cli import tasks
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.types import Batch
from seewhy.explainers.gradient import InputXGradient
from seewhy.models.cell_grid import BatchLayout, CellGrid, GridAxis
from seewhy.models.classifier import Classifier
from tiny import classifier_of

SIZE, CLASSES, EACH = 16, 3, 60
SMALL = Audit(least=20, candidates=4, images=40, places=2, resamples=1)


class Cells(nn.Module):
    """Mean colours of 4x4 cells of 4 pixels; a class is a colour in the middle, the first also a white corner.

    logit_c = object * (mean of channel c over the four middle cells) + [c = 0] corner * (mean of the bottom right cell).
    """

    def __init__(self, corner: float, middle: float = 12.0) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 3, 4, 4, bias=False)
        self.gate = nn.ReLU()
        self.head = nn.Linear(48, CLASSES)
        weights = torch.zeros(CLASSES, 3, 4, 4)
        for label in range(CLASSES):
            weights[label, label, 1:3, 1:3] = middle / 4
        weights[0, :, 3, 3] = corner / 3
        with torch.no_grad():
            self.cells.weight.copy_(torch.eye(3)[:, :, None, None].expand(-1, -1, 4, 4) / 16)
            self.head.weight.copy_(weights.flatten(1))
            self.head.bias.copy_(torch.tensor([-corner / 3, 0.0, 0.0]))

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


def test_the_object_of_a_class_is_no_shortcut(tmp_path: Path) -> None:
    images, labels, _ = make_images(0.0)
    result = audit(make_network(0.0), images, labels, tmp_path)
    assert len(result.subjects) == CLASSES
    assert result.findings
    assert not any(each.proven for each in result.findings), [each.reason for each in result.findings]
    assert describe(result, ["a", "b", "c"])[0].startswith("no shortcut is proven")


def test_a_corner_that_a_network_does_not_use_only_looks_odd(tmp_path: Path) -> None:
    images, labels, _ = make_images(0.5)
    result = audit(make_network(0.0), images, labels, tmp_path)
    assert not result.shortcuts
    assert all(each.reason for each in result.findings)


def test_what_the_folder_holds_is_not_computed_again_and_changed_images_are(tmp_path: Path) -> None:
    images, labels, _ = make_images(0.5)
    few = Audit(least=20, candidates=2, images=20, places=1, resamples=1)
    first = audit(make_network(30.0), images, labels, tmp_path, few)
    network = make_network(30.0)
    again = audit(network, images, labels, tmp_path, few)
    proofs = sum(bool(each.effects) for each in first.findings)
    assert proofs
    assert again.before == (len(images), proofs)
    assert network.passes.backward == 0
    assert [write_row(1, each) for each in again.findings] == [write_row(1, each) for each in first.findings]
    images[0] = 1 - images[0]
    (tmp_path / "audit" / "batch_00001.npz").write_bytes(b"PK damaged")
    assert audit(make_network(30.0), images, labels, tmp_path, few).before[0] == len(images) - 100
    reader = Reader(make_network(31.0), InputXGradient(), RunFolder(tmp_path), "another plan", "auto")
    reader.read(read(images, labels))
    assert reader.before == 0


def test_too_few_images_are_one_sentence(tmp_path: Path) -> None:
    images, labels, _ = make_images(0.0)
    with pytest.raises(UserError, match=r"there are 18 images, fewer than audit\.least=20"):
        audit(make_network(0.0), images[::10], labels[::10], tmp_path)
    with pytest.raises(UserError, match="no image could be read"):
        audit(make_network(0.0), images[:0], labels[:0], tmp_path)


def test_images_of_many_classes_are_looked_at_together_and_nothing_is_proven(tmp_path: Path) -> None:
    images, labels, _ = make_images(0.5)
    result = audit(make_network(30.0), images[::3], labels[::3], tmp_path, Audit(least=50, images=20, resamples=1))
    assert [(each.name, each.target) for each in result.subjects] == [("all images", ALL)]
    assert not result.shortcuts
    assert {"of many classes" in each.reason or "at random places" in each.reason for each in result.findings} == {True}
    matters = [each for each in result.findings if each.effects["removed"][1] > 0]
    assert matters
    assert all(list(each.effects) == ["removed"] and np.isnan(each.rise[0]) for each in result.findings)
    assert len(describe(result, ["a", "b", "c"])) == 1 + len(matters)
    assert result.findings[0].fall[0] > 0.2, "the object in the middle, or the corner"


MEANS = Statistics(torch.full((3, 8, 8), 0.9), torch.full((3, 8, 8), 0.5), torch.full((3, 8, 8), 0.4))
GREY = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4


def test_a_place_is_replaced_and_its_control_has_its_size_elsewhere() -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[5:, 5:] = True
    place = Place(mask, MEANS, 0)
    inserted = place.insert(GREY)
    assert bool((inserted[:, :, mask] == 0.9).all())
    assert torch.equal(inserted[:, :, ~mask], GREY[:, :, ~mask])
    as_far = place.insert_rest(GREY)[:, :, mask]
    assert torch.allclose(as_far, torch.full_like(as_far, 0.9)), "0.4 + (0.5 - 0.4) * (0.9 - 0.4) / (0.5 - 0.4)"
    control = (place.insert(GREY, 0) != GREY).any(1)[0]
    assert int(control.sum()) == 9
    assert int((control & mask).sum()) <= 1
    imputed, given = place.remove(inserted, GREY.flip(0))
    assert float((imputed[:, :, mask] - 0.5).abs().max()) < 0.15, "what lies around it, not the mark"
    assert torch.equal(given[:, :, mask], GREY.flip(0)[:, :, mask])


def test_a_pattern_is_added_and_taken_away_and_its_control_has_its_spectrum() -> None:
    change = 0.1 * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(2))
    change -= change.mean((1, 2), keepdim=True)
    pattern = Pattern(change, -change, 0)
    assert torch.allclose(pattern.remove(pattern.insert(GREY), GREY)[0], GREY, atol=1e-6)
    assert torch.allclose(pattern.insert_rest(GREY), (GREY - change).clamp(0, 1))
    control = pattern.insert(torch.full((1, 3, 8, 8), 0.5), 0)[0] - 0.5
    spectra = [torch.fft.rfft2(each.double())[:, :, 1:4].abs() for each in (control, change)]
    assert torch.allclose(*spectra, atol=1e-5)
    assert float((control - change).abs().max()) > 0.05


def test_a_cast_is_put_on_and_taken_off_and_its_control_points_elsewhere() -> None:
    gains, shifts = torch.tensor([1.2, 1.0, 0.8]), torch.tensor([0.1, 0.0, -0.1])
    cast = Cast(gains, shifts, torch.ones(3), torch.tensor([0.0, 0.1, 0.0]), (8, 8), 0)
    given = cast.insert(GREY)
    assert torch.allclose(given.mean((2, 3)) - GREY.mean((2, 3)), shifts.expand(6, -1), atol=1e-6)
    assert torch.allclose(given.flatten(2).std(2) / GREY.flatten(2).std(2), gains.expand(6, -1), atol=1e-5)
    assert torch.allclose(cast.remove(given, GREY)[0], GREY, atol=1e-6)
    assert torch.equal(cast.remove(given, GREY, 0)[0], given), "held against the images as they are"
    moved = (cast.insert(GREY, 0) - GREY).mean((2, 3))[0]
    assert float(moved.norm()) == pytest.approx(float(shifts.norm()), abs=1e-5)
    assert abs(float(moved @ shifts)) < 0.7 * float(shifts.norm()) ** 2
    assert bool(cast.region.all())


@pytest.mark.parametrize("kind", ["place", "pattern", "cast"])
def test_members_are_found_from_a_part_of_them(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    small = 0.3 + 0.3 * torch.rand(80, 3, 16, 16, generator=generator)
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[12:, 12:] = True
    if kind == "place":
        small[:40, :, mask] = 1.0
    elif kind == "pattern":
        small[:40] += 0.1 * (torch.arange(16) % 2)
    else:
        small[:40] += torch.tensor([0.1, 0.0, -0.1])[:, None, None]
    start = np.r_[0:25, 45:50]  # two thirds of them, and a few that are none
    members, where = refine_members(kind, start, small, mask)
    assert members.tolist() == list(range(40))
    assert float(where[:40].mean()) == pytest.approx(1)
    assert float(where[40:].mean()) == pytest.approx(0, abs=1e-9)


def test_the_place_is_where_the_mass_is_or_where_the_means_differ() -> None:
    values = torch.zeros(16, 16)
    values[0, :4], values[8, 8] = 1.0, 0.5
    place = choose_place(values, (32, 32))
    assert int(place.sum()) == 3 * 4, "three of 4.5 hold more than half; each cell has 2x2 pixels"
    assert bool(place[:2, :8].any())
    assert not bool(place[2:].any())
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[:20, :, 0, 7] = 0.0
    deviation = measure_deviation(images, np.arange(20))
    assert deviation.argmax() == 7
    assert int(choose_place(torch.ones(16, 16), (32, 32)).sum()) == 256, "at most a quarter"


def test_maps_are_summed_over_the_cells_where_they_lie() -> None:
    axis = GridAxis(2, -2.0, 6.0, 8, (0, 8))
    grid = CellGrid(BatchLayout(), (2, 3), None, axis, GridAxis(2, 0.0, 4.0, 8, (0, 8)))
    maps = torch.zeros(1, 8, 8)
    maps[0, 3, 1] = maps[0, 4, 7] = 1.0
    assert average_cells(maps, grid)[0].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert float(average_cells(torch.ones(1, 8, 8), grid).sum()) == 64


def test_copies_of_one_picture_differ_less_than_images_with_one_thing_in_common() -> None:
    generator = torch.Generator().manual_seed(4)
    small = torch.rand(60, 3, 8, 8, generator=generator)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[6:, 6:] = True
    small[:20, :, mask] = 1.0
    small[40:] = small[40] + 0.02 * torch.rand(20, 3, 8, 8, generator=generator)
    assert measure_spread(small[:40], np.arange(20), mask) == pytest.approx(1, abs=0.1)
    assert measure_spread(small, np.arange(40, 60), None) < 0.1


def make_facts(count: int, seed: int = 0) -> Facts:
    generator = np.random.default_rng(seed)
    maps = generator.random((count, 16, 16))
    maps[: count // 4, 14:, 14:] += 40
    maps /= maps.sum((1, 2), keepdims=True)
    probabilities = np.eye(2)[np.zeros(count, int)]
    labels = np.zeros(count, np.int64)
    return Facts(maps, generator.random((count, 6)), probabilities, np.full(count, np.nan), labels)


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
    assert set(embed(facts, np.arange(80), small)) == {"position", "appearance", "colour", "border", "pattern"}
    again = find_groups(facts, np.arange(80), small, 5, 3, 0)
    assert [each.members.tolist() for each in again] == [each.members.tolist() for each in groups]


def test_classes_and_confusions_with_enough_images_are_looked_at() -> None:
    probabilities = np.eye(3)[[0] * 30 + [1] * 25 + [2] * 5]
    labels = np.array([0] * 8 + [1] * 22 + [1] * 25 + [-1] * 5)
    facts = Facts(np.ones((60, 2, 2)), np.ones((60, 1)), probabilities, np.ones(60), labels)
    subjects = list_subjects(facts, ["a", "b", "c"], 20)
    assert [(each.name, each.target, len(each.rows), len(each.context)) for each in subjects] == [
        ("a", 0, 30, 30),
        ("b", 1, 25, 47),
        ("b taken for a", 0, 22, 47),
    ]


def make_candidate(members: list[int], look: float = 0.9, spread: float = 1.0) -> Candidate:
    group = Group(np.array(members), "position, spectral", 1.0, 0.5, 2.0, 3.0)
    place = Place(torch.ones(4, 4, dtype=torch.bool), MEANS, 0)
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
    "audit.resamples=1",
)


def test_the_command_trains_on_tagged_images_finds_the_tag_and_fails_where_it_is_asked_to(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        run_command(tmp_path / "run", *TRAINED, "audit.fail_on=0.25")
    assert stop.value.code == 3
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "completed"
    assert record["shortcuts"] >= 1
    assert record["planted"]["look"] == "mark"
    with (tmp_path / "run" / "shortcuts.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert tuple(first) == COLUMNS
    assert (first["class"], first["verdict"]) == ("airplane", "shortcut")
    assert float(first["share_low"]) <= 0.5 <= float(first["share_high"])
    with (tmp_path / "run" / "files_to_check.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) >= int(first["images"])
    assert (tmp_path / "run" / "figures" / "group_01.png").stat().st_size > 1000
    assert "shortcut proven" in (tmp_path / "run" / "audit.md").read_text()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "What it uses besides the object" in page
    assert "<script" not in page
    assert not (tmp_path / "run" / "audit" / "pixels.npy").exists()
    before = (tmp_path / "run" / "audit.csv").read_bytes()
    with pytest.raises(SystemExit):
        run_command(tmp_path / "run", *TRAINED, "audit.fail_on=0.25")
    again = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (again["images_done_before"], again["passes"]["backward"]) == (180, 0)
    assert (tmp_path / "run" / "audit.csv").read_bytes() == before


def test_the_command_audits_a_network_as_it_is(tmp_path: Path) -> None:
    few = ["model=cifar_cnn", "audit.least=20", "audit.images=20", "audit.resamples=1", "model.weights=random"]
    record = run_command(tmp_path / "run", *few)
    assert (record["status"], record["images"]) == ("completed", 60)
    assert record["model"]["weights"] == "random (seed 0)"  # type: ignore[index]
    assert (tmp_path / "run" / "audit.csv").is_file()


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
