"""The benchmark: whole on a tiny network, its arithmetic by hand."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from benchmarking import command, floor, metrics
from benchmarking.clock import Spread, in_turn, ratio, read_clock
from benchmarking.command import ROOT, main, parsed
from benchmarking.compare import peer_rows
from benchmarking.floor import Floor, remember, work
from benchmarking.goals import goals
from benchmarking.methods import NAMES, QUICK_NAMES, cheap, images_for
from benchmarking.metrics import metric_rows
from benchmarking.over_floor import over_floor
from benchmarking.page import join, read_csv
from benchmarking.peers import captum_methods
from benchmarking.peers.peer import Peer, difference
from benchmarking.row import Row
from benchmarking.scaling import Line, lines_of
from benchmarking.script import run_command
from benchmarking.subject import Subject, explainer_named
from torch import nn

from seewhy.core.errors import Incompatible
from seewhy.explainers.captum_adapter import Captum
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.models.batched import find_batch_size
from seewhy.models.classifier import Passes
from tiny import random_images, small_cnn


def subject(count: int = 2) -> Subject:
    return Subject(small_cnn(), random_images(count, 32), torch.arange(count), "relu2")


@pytest.mark.slow
def test_the_whole_command_on_a_tiny_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--methods", "saliency", "lrp", "attention_rollout", "--metrics", "deletion", "sparseness", "--peers"]
    given = [
        "--models",
        "cifar_cnn",
        "--images",
        "2",
        "--repeats",
        "1",
        "--parts",
        "methods",
        "metrics",
        "peers",
        "adaptive",
    ]
    main([*given, *few, "--folder", str(tmp_path)])
    with (tmp_path / "benchmark.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert (rows["saliency"]["forward"], rows["saliency"]["backward"]) == ("1", "1")
    assert float(rows["saliency"]["ratio"]) > 0
    assert float(rows["saliency"]["work"]) == pytest.approx(1, abs=1e-3)
    assert float(rows["lrp"]["work"]) > 1.3
    assert rows["attention_rollout"]["note"].startswith("refused")
    assert int(rows["deletion"]["forward"]) == 11
    assert rows["sparseness"]["ratio"] == ""
    page = (tmp_path / "benchmark.md").read_text()
    assert "## Goals" in page
    assert "every attribution method at most 1.10 x its floor" in page
    assert "## Optimisations" in page


@pytest.mark.slow
def test_rows_of_other_parts_are_kept_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarking.floor.best_sizes", lambda *given, **options: (2, 2))  # the search has tests above
    few = ["--models", "cifar_cnn", "--images", "2", "--repeats", "1", "--folder", str(tmp_path)]
    main([*few, "--parts", "methods", "--methods", "saliency"])
    main([*few, "--parts", "metrics", "--metrics", "sparseness", "--keep"])
    with (tmp_path / "benchmark.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["saliency", "sparseness"]
    assert (tmp_path / "benchmark.md").read_text().count("- measured at commit") == 2
    main([*few, "--parts", "methods", "--methods", "random", "--keep"])
    names = [row.name for row in read_csv(tmp_path / "benchmark.csv")]
    assert names == ["random", "saliency", "sparseness"], "one method measured again leaves the others"
    main([*few, "--parts", "metrics", "--metrics", "complexity"])
    assert [row.name for row in read_csv(tmp_path / "benchmark.csv")] == ["complexity"]


@pytest.mark.slow
def test_settings_of_captum_are_cut_down_and_passes_that_nobody_knows_are_counted() -> None:
    explainer = cheap(explainer_named("shapley_value_sampling"), quick=True)
    assert isinstance(explainer, Captum)
    assert explainer.options == {"n_samples": 4}
    small = subject()
    assert images_for(explainer, small, 10**6) == 2
    assert (
        images_for(
            explainer, Subject(small.classifier, random_images(8, 32), torch.zeros(8, dtype=torch.int64), "relu2"), 300
        )
        == 2
    )


def test_all_methods_can_be_asked_for_in_a_quick_run() -> None:
    assert parsed(["--methods", "all"]).methods == list(NAMES)
    assert parsed([]).methods == list(QUICK_NAMES)
    assert parsed(["--metrics", "all"]).metrics == list(metrics.NAMES)
    assert parsed(["--full"]).methods == list(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_method_can_be_cut_down_for_a_quick_look(name: str) -> None:
    explainer = explainer_named(name)
    assert type(cheap(explainer, quick=True)) is type(explainer)


@pytest.mark.slow
def test_sets_of_metrics_are_no_metrics_and_fewer_layers_have_fewer_columns() -> None:
    assert set(metrics.CURVES) < set(metrics.NAMES)
    assert not {"all", "removers", "verdict"} & set(metrics.NAMES)
    assert metrics.built("model_randomization_cascading", quick=True).columns[:2] == ("step_1", "step_2")


def test_calls_are_made_in_turn() -> None:
    made: list[str] = []
    calls = {"a": lambda: made.append("a"), "b": lambda: made.append("b")}
    found = in_turn(calls, 3, torch.device("cpu"))
    assert made == ["a", "b"] * 4
    assert [len(times) for times in found.values()] == [3, 3]
    assert ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == Spread(2.0, 1.0, 3.0)


def test_one_thread_is_measured_by_the_processor_and_more_by_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = SimpleNamespace(process_time=lambda: 1.0, perf_counter=lambda: 2.0)
    monkeypatch.setattr("benchmarking.clock.time", clocks)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert read_clock(torch.device("cpu")) == 1.0
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert read_clock(torch.device("cpu")) == 2.0


@pytest.mark.slow
def test_a_command_of_one_thread_is_measured_by_the_processor_too() -> None:
    sleeping = ["-S", "-c", "import time; time.sleep(1)"]
    assert run_command(sleeping, threads=1)[0] < 1 <= run_command(sleeping, threads=2)[0]


def test_each_network_has_its_goals() -> None:
    rows = [Row("method", "first", "rise", ratio=1.05), Row("method", "second", "rise", ratio=1.2)]
    verdicts = {goal.wanted: goal.verdict for goal in goals(rows, "cpu")}
    assert verdicts["every attribution method at most 1.10 x its floor on first"] == "holds"
    assert verdicts["every attribution method at most 1.10 x its floor on second"] == "misses"


def test_a_library_that_is_measured_again_leaves_the_rows_of_the_others() -> None:
    def row(setting: str, ratio: float, part: str = "peer") -> Row:
        return Row(part, "net", "saliency", setting, ratio=ratio)

    earlier = [row("captum: one", 1), row("captum: two", 1), row("zennit: one", 1), row("reduction=max", 1, "method")]
    found = join(earlier, [row("captum: three", 2), row("reduction=sum", 2, "method")], {"method": ["saliency"]})
    assert [(each.setting, each.ratio) for each in found] == [
        ("zennit: one", 1),
        ("captum: three", 2),
        ("reduction=sum", 2),
    ]


def test_a_peer_is_beaten_network_by_network() -> None:
    rows = [
        Row("peer", net, "saliency", "captum: Saliency, defaults", ratio=1 + at) for net, at in (("a", 1), ("b", -0.1))
    ]
    verdicts = {goal.wanted: goal.verdict for goal in goals(rows, "cpu")}
    wanted = "never slower than Captum's defaults"
    assert (verdicts[f"{wanted} on a"], verdicts[f"{wanted} on b"]) == ("holds", "misses")
    assert {goal.wanted: goal.verdict for goal in goals(rows[:1], "cpu")}[wanted] == "holds"


@pytest.mark.parametrize(
    ("network", "notes"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6()),
            {"guided_backprop": "ReLU6", "deep_lift": "given a rule for ReLU6"},
        ),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), {"guided_backprop": "", "deep_lift": ""}),
        (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), {"deep_lift": "has no rule for attention"}),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)), {}),
    ],
    ids=["ReLU6", "ReLU", "tokens", "maximum"],
)
def test_a_peer_says_what_was_changed_for_this_network(network: nn.Module, notes: dict[str, str]) -> None:
    peers = {peer.method: peer for peer in captum_methods.peers(4, True, 32, network)}
    for method, words in notes.items():
        assert peers[method].note.startswith(words)
        assert bool(peers[method].note) == bool(words)
    assert ("deep_lift" in peers) == (nn.MaxPool2d not in map(type, network))
    if "deep_lift" in peers:
        assert (peers["deep_lift"].tolerance is None) == any(isinstance(each, nn.LayerNorm) for each in network)


def test_a_long_call_has_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    one = subject(1)
    made: list[int] = []
    given = one.classifier, one.images, lambda: made.append(1), (1, 1)
    over_floor(*given, repeats=3, rounds=1)
    assert len(made) == 1 + 3
    monkeypatch.setattr("benchmarking.over_floor.LONG", -1)
    over_floor(*given, repeats=3, rounds=1)
    assert len(made) == 4 + 1 + 1


def test_a_network_keeps_to_the_best_batch_sizes_also_layer_by_layer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one = subject(1)
    remember(one.classifier, one.images[0], (3, 5))
    with one.classifier.folding.off():
        assert [find_batch_size(one.classifier, one.images[0], gradient) for gradient in (False, True)] == [3, 5]


def test_the_floor_counts_each_backward_pass_with_its_forward_pass() -> None:
    assert Floor(1.0, 3.0, (8, 8)).seconds(Passes(forward=5, backward=2)) == 3 * 1 + 2 * 3


def test_the_work_of_a_gradient_is_its_pass_and_of_many_steps_theirs() -> None:
    one = subject(1)
    given = one.classifier, one.images, one.targets
    for explainer in (Saliency(probe_batch_size=4), IntegratedGradients(n_steps=3, probe_batch_size=4)):
        assert work(one.classifier, one.images, lambda chosen=explainer: chosen(*given)) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_the_maps_of_a_metric_are_no_passes_of_its_own() -> None:
    rows = list(metric_rows(subject(4), ["average_drop", "random_logit"], (2, 2), 1, True))
    assert [(row.forward, row.backward) for row in rows] == [(2, 0), (1, 1)]


def test_differences() -> None:
    ours, theirs = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[1.0, 2.0, 5.0]])
    assert difference(ours, theirs, affine=False) == pytest.approx(1 / 5)
    assert difference(ours, 3 * ours - 2, affine=True) == pytest.approx(0, abs=1e-6)
    assert difference(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 4.0]), affine=False) == pytest.approx(1 / 4)


def test_peers_that_are_missing_too_large_broken_or_wrong_are_named() -> None:
    def maps(found: Subject) -> torch.Tensor:
        return found.images.sum(1)

    def refused(found: Subject) -> torch.Tensor:
        raise Incompatible("it needs rectifiers")

    def broken(found: Subject) -> torch.Tensor:
        raise ValueError("no such layer")

    peers = [
        Peer("saliency", "no_such_library", "", maps, maps),
        Peer("saliency", "torch", "", maps, maps, at_once=10**9),
        Peer("saliency", "torch", "", maps, broken, 1e-3),
        Peer("saliency", "torch", "", maps, lambda found: 2 * maps(found), 1e-3),
        Peer("saliency", "torch", "", maps, maps, 1e-3),
        Peer("saliency", "torch", "", refused, maps, 1e-3),
    ]
    rows = list(peer_rows(subject(), peers, repeats=1))
    notes = [row.note for row in rows]
    assert notes[0] == "not installed: make oracle"
    assert notes[1].startswith("not run: would keep")
    assert rows[1].megabytes is not None and rows[1].megabytes > 1000
    assert notes[2] == "theirs raises ValueError: no such layer"
    assert notes[3].startswith("VALUES DIFFER")
    assert (notes[4], rows[4].difference) == ("", 0)
    assert notes[5] == "refused: it needs rectifiers"


def test_goals_hold_miss_or_are_not_measured() -> None:
    rows = [
        Row("method", "net", "saliency", ratio=1.05),
        Row("method", "net", "lrp", ratio=3.3, work=3.1),
        Row("peer", "net", "deletion", "quantus: PixelFlipping", ratio=3.0),
        Row("adaptive", "net", "integrated_gradients", "n_steps=auto, 22 steps on average", ratio=0.2),
        Row("adaptive", "net", "integrated_gradients", "captum: IntegratedGradients to 1 %", ratio=4.0),
    ]
    found = {goal.wanted: goal for goal in goals(rows, "cpu")}
    assert found["every attribution method at most 1.10 x its floor"].verdict == "misses"
    assert "`lrp` 3.30" in found["every attribution method at most 1.10 x its floor"].found
    assert found["... and at most 1.10 x what its rules compute"].verdict == "holds"
    assert found["pixel flipping at least 2.5 x Quantus"].verdict == "holds"
    assert found["peak memory over settings flat within 10 %"].verdict == "not measured"
    assert found["IG to 1 %: at most half the smallest fixed number of steps"].verdict == "holds"
    assert found["... and to 1 % completeness at least 5 x Captum's fewest fixed steps"].verdict == "misses"


def test_a_straight_line_and_flat_memory() -> None:
    line = Line("steps", "integrated_gradients", [1, 2, 3], [1.0, 1.5, 2.0], [100.0, 110.0, 105.0])
    assert line.slope == pytest.approx(0.5)
    assert line.straightness == pytest.approx(1)
    assert line.memory_ratio == pytest.approx(1.1)


def test_the_lines_of_an_earlier_run_are_read_from_its_rows() -> None:
    rows = [
        Row("scaling", "net", "saliency", f"images={count}", seconds=0.5 * count, megabytes=100.0) for count in (1, 3)
    ] + [Row("method", "net", "saliency"), Row("scaling", "net", "rise", "steps=7", seconds=1.0, megabytes=50.0)]
    assert lines_of(rows) == [
        Line("images", "saliency", [1, 3], [0.5, 1.5], [100.0, 100.0]),
        Line("steps", "rise", [7], [1.0], [50.0]),
    ]


@pytest.mark.parametrize(("words", "folder"), [([], "outputs/benchmark"), (["--full"], ""), (["--keep"], "")])
def test_a_quick_look_does_not_replace_the_whole_page(words: list[str], folder: str) -> None:
    assert parsed(words).folder == ROOT / "logbook" / folder
    assert parsed([*words, "--folder", "mine"]).folder == Path("mine")


@pytest.mark.parametrize("given", [None, 9])
def test_a_full_run_measures_a_slow_network_sparingly(
    given: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(floor, "SIZES", {"cpu": (1, 16)})
    options = parsed(["--full", "--models", "cifar_cnn", "--parts", "methods", "--methods", "edges", "--repeats", "1"])
    options.images = given
    counts, said = {}, {}
    for slow in (0.0, 1e9):
        monkeypatch.setattr(command, "SLOW", slow)
        floors: list[str] = []
        (row,) = command.measured(options, floors)
        counts[slow], said[slow] = row.images, floors[0].endswith("in the steps and samples of a quick run")
    assert counts == {0.0: given or command.FEW, 1e9: given or 32} and said == {0.0: True, 1e9: False}
