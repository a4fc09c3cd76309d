"""Runs of a sweep joined into one comparison, or refused."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from commands import composed
from seewhy.cli import tasks
from seewhy.core.errors import UserError
from seewhy.explainers import controls
from seewhy.report.comparison import CONTROLS, Comparison, JoinedRuns, compare_runs, join_runs
from seewhy.report.leaderboard import build_leaderboard_table, build_scores_table, format_value
from seewhy.report.runs import find_runs
from seewhy.report.write import write_report
from seewhy.statistics.schema import MetricFact, read_metric_facts
from seewhy.statistics.summary import summarise_metrics
from sweep_folder import FACTS, edit_record, values, write_run, write_sweep

FEW = {"deletion": FACTS["deletion"], "insertion": FACTS["insertion"], "coverage": FACTS["coverage"]}
OTHER_MODEL = {"name": "resnet50", "weights": "hub", "weights_sha256": "b" * 64}


def joined(place: Path) -> list[JoinedRuns]:
    return join_runs(find_runs([str(place)])[0])


def text_of(made: object, width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(made)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    sweep = write_sweep(tmp_path_factory.mktemp("sweep"), ["random", "edges", "grad_cam", "rise"], facts=FEW, images=16)
    return compare_runs(joined(sweep)[0])


def test_the_numbers_of_a_comparison_are_those_of_its_tables(comparison: Comparison) -> None:
    board = comparison.leaderboard
    means = {name: values(name, "deletion", 16, 0.15).mean() for name in board.index}
    np.testing.assert_allclose(board["deletion"], [means[name] for name in board.index])
    np.testing.assert_allclose(board["mean_rank_faithfulness"], (board["deletion_rank"] + board["insertion_rank"]) / 2)
    assert board["mean_rank_faithfulness"].is_monotonic_increasing
    assert board["control"].to_dict() == {"grad_cam": False, "rise": False, "edges": True, "random": True}
    assert (board.loc["rise", "passes"], board.loc["rise", "seconds"]) == (1001, 50)
    assert comparison.get_verdict("grad_cam", "deletion") == "yes"
    assert comparison.get_verdict("random", "deletion") == "control"
    tests = board["deletion_test_random"].to_dict()
    assert tests.pop("random") == ""
    assert set(tests.values()) == {"sign-flip permutation of the mean, exact"}
    assert min(means, key=lambda name: means[name]) in comparison.list_leaders("deletion")
    assert set(comparison.pairwise["metric"]) == {"deletion", "insertion"}
    assert len(comparison.pairwise) == 2 * 6
    assert set(comparison.summary["metric"]) == set(FEW)
    assert "coverage" not in board


def test_every_control_is_shown_as_one(tmp_path: Path) -> None:
    classes = [
        value for value in vars(controls).values() if isinstance(value, type) and value.__module__ == controls.__name__
    ]
    names = sorted(each().name for each in classes)
    assert sorted(CONTROLS) == names == ["centre", "edges", "random"]
    sweep = write_sweep(tmp_path, [*names, "grad_cam"], facts=FEW, images=8)
    board = compare_runs(joined(sweep)[0]).leaderboard
    assert board["control"].to_dict() == {**dict.fromkeys(names, True), "grad_cam": False}


@pytest.mark.slow
def test_a_leaderboard_of_many_metrics_is_built_at_once() -> None:
    """Pandas warns of a table to which a hundred columns are added one by one, and warnings are errors here."""
    values = np.random.default_rng(0).random((30, 2, 5))
    rows = [
        (f"image_{image}", label, f"metric_{metric:02d}", float(value))
        for metric, table in enumerate(values)
        for label, column in zip(("saliency", "random"), table, strict=True)
        for image, value in enumerate(column)
    ]
    labels = pd.Index(["random", "saliency"], name="explainer")
    explainers = pd.DataFrame({"method": labels, "control": [True, False], "passes": 1.0, "seconds": 0.1}, index=labels)
    facts = {f"metric_{metric:02d}": MetricFact("lower", construct="faithfulness") for metric in range(30)}
    table = pd.DataFrame(rows, columns=["image", "explainer", "metric", "value"])
    compared = compare_runs(JoinedRuns("model", 5, "predicted", table, explainers, facts))
    assert compared.leaderboard.shape == (2, 4 + 7 * 30)
    for metric in range(30):
        for label, column in zip(("saliency", "random"), values[metric], strict=True):
            assert compared.get_mean(label, f"metric_{metric:02d}")[0] == pytest.approx(column.mean())


def test_the_terminal_shows_direction_interval_best_and_mark(comparison: Comparison) -> None:
    said = text_of(build_leaderboard_table(comparison, 200))
    assert "deletion ↓" in said
    assert "insertion ↑" in said
    mean, low, high = comparison.get_mean("grad_cam", "deletion")
    assert f"{format_value(mean)} [{format_value(low)}, {format_value(high)}]" in said
    lines = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    assert "n.s." in lines["edges"]
    assert "n.s." not in lines["grad_cam"]
    assert "n.s.: not significantly better than random (p >= 0.05)" in said
    narrow = text_of(build_leaderboard_table(comparison, 50), 50)
    assert sum(line.startswith("method  ") for line in narrow.splitlines()) == 2


def test_one_explainer_is_a_table_of_its_metrics() -> None:
    table = pd.DataFrame(
        {"image": list("abcd"), "explainer": "lrp", "metric": "road", "value": [0.1, 0.2, 0.4, np.nan]}
    )
    said = text_of(build_scores_table(summarise_metrics(table, {"road": MetricFact("higher", "")})))
    for words in ("road", "↑", "0.233", "0.200", "intervals are approximate; 1 missing"):
        assert words in said


@pytest.mark.slow
def test_a_report_writes_what_pandas_reads_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "sweep", ["random", "grad_cam", "rise"], facts=FEW, images=8)
    write_run(sweep / "3_lrp", "lrp", facts=FEW, images=8, status="refused", reason="no rule for SiLU")
    write_run(sweep / "4_lime", "lime", facts=FEW, images=8, status="failed", reason="out of memory")
    facts = write_report([str(sweep)], tmp_path / "report")
    assert [Path(one["folder"]).name for one in facts["unused"]] == ["3_lrp", "4_lime"]
    assert (facts["models"], facts["images"], len(facts["runs"])) == (["efficientnet_lite0"], 8, 3)
    said = capsys.readouterr().out
    assert "not used, refused" in said
    assert "out of memory" in said
    for name, rows in (("leaderboard", 3), ("pairwise", 6), ("summary", 9)):
        assert len(pd.read_csv(tmp_path / "report" / f"{name}.csv")) == rows
    assert read_metric_facts(tmp_path / "report") == dict(sorted(FEW.items()))
    for name in ("leaderboard", "pareto", "ranks"):
        assert (tmp_path / "report" / f"{name}.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.slow
def test_same_seed_same_bytes_whatever_the_order_of_images_and_runs(tmp_path: Path) -> None:
    explainers = ["random", "grad_cam", "saliency"]
    for place, (order, listed) in enumerate([(None, explainers), ([5, 3, 1, 0, 2, 4, 6], explainers[::-1])]):
        sweep = write_sweep(tmp_path / f"sweep{place}", listed, facts=FEW, images=7, order=order)
        write_report([str(sweep)], tmp_path / f"report{place}", seed=5)
    files = sorted(path.name for path in (tmp_path / "report0").iterdir())
    assert len(files) == 8
    files.remove("results.csv")  # rows in the order of the runs, as they are streamed
    keys = ["explainer", "image", "metric", "value"]
    tables = [pd.read_csv(tmp_path / f"report{place}" / "results.csv")[keys].sort_values(keys) for place in (0, 1)]
    pd.testing.assert_frame_equal(*(table.reset_index(drop=True) for table in tables))
    for name in files:
        assert (tmp_path / "report0" / name).read_bytes() == (tmp_path / "report1" / name).read_bytes(), name


@pytest.mark.slow
def test_several_models_get_a_leaderboard_each(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", ["random", "grad_cam"], facts=FEW, images=6)
    write_run(tmp_path / "sweep" / "other", "grad_cam", facts=FEW, images=6, model=OTHER_MODEL)
    write_report([str(tmp_path / "sweep")], tmp_path / "report")
    board = pd.read_csv(tmp_path / "report" / "leaderboard.csv")
    assert board.groupby("model").size().to_dict() == {"efficientnet_lite0": 2, "resnet50": 1}
    assert (tmp_path / "report" / "resnet50" / "leaderboard.png").is_file()
    alike = {**OTHER_MODEL, "name": "efficientnet_lite0"}
    edit_record(tmp_path / "sweep" / "other", model=alike)
    labels = [one.model for one in joined(tmp_path / "sweep")]
    assert labels == ["efficientnet_lite0 (aaaaaaaa)", "efficientnet_lite0 (bbbbbbbb)"]


def test_runs_of_one_explainer_are_told_apart(tmp_path: Path) -> None:
    def labels() -> list[str]:
        return list(joined(tmp_path)[0].explainers.index)

    for window in (8, 16):
        parameters = f"baseline=black, window=({window}, {window})"
        given = {"name": "occlusion", "parameters": parameters, "target": "predicted"}
        write_run(tmp_path / f"run{window}", "occlusion", facts=FEW, images=6, explainer=given)
    assert labels() == ["occlusion (window=(16, 16))", "occlusion (window=(8, 8))"]
    shutil.copytree(tmp_path / "run8", tmp_path / "again")
    shutil.rmtree(tmp_path / "run16")
    assert labels() == ["occlusion (again)", "occlusion (run8)"]
    found = compare_runs(joined(tmp_path)[0])
    assert (found.pairwise["difference"] == 0).all()
    assert (found.pairwise["p"] == 1).all()
    edit_record(tmp_path / "again", seed=1)
    assert labels() == ["occlusion (seed=0)", "occlusion (seed=1)"]


def swap_predictions(folder: Path, old: str, new: str) -> None:
    path = folder / "predictions.csv"
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: write_run(folder, "lrp", facts=FEW, images=5), "6 and 5 images; image_0005 is only in"),
        (
            lambda folder: edit_record(folder, explainer={"name": "lrp", "parameters": "", "target": "true"}),
            "different target policies, predicted and true",
        ),
        (lambda folder: swap_predictions(folder, ",cat,cat,0.9", ",dog,cat,0.9"), "image_0000 has different labels"),
        (lambda folder: swap_predictions(folder, "yes,cat", "yes,dog"), "image_0000 has different targets, 'cat'"),
        (lambda folder: swap_predictions(folder, "0.900000", "0.700000"), "p=0.900 in .* and p=0.700 in"),
        (
            lambda folder: write_run(folder, "lrp", facts=FEW | {"deletion": MetricFact("lower", "mean")}, images=6),
            "deletion is defined differently",
        ),
        (lambda folder: (folder / "metrics.csv").unlink(), r"metrics\.csv is missing"),
        (lambda folder: (folder / "predictions.csv").write_text("a,b\n1,2\n"), "does not hold what a run writes"),
        (lambda folder: (folder / "run.json").write_text("{"), "is not the record of a run"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, change: object, words: str) -> None:
    write_run(tmp_path / "a", "random", facts=FEW, images=6)
    change(write_run(tmp_path / "b", "lrp", facts=FEW, images=6))  # type: ignore[operator]
    with pytest.raises(UserError, match=words):
        joined(tmp_path)


def test_runs_are_found_once_by_folder_pattern_and_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path / "one_sweep", ["random", "rise"], facts=FEW, images=6)
    write_run(tmp_path / "two_sweep" / "0", "lime", facts=FEW, images=6)
    write_run(tmp_path / "report", "none", task="report", facts=FEW, images=6)
    assert [len(find_runs([place])[0]) for place in ("one_sweep", "*_sweep", ".", "one_sweep/0*")] == [2, 3, 3, 1]
    runs = find_runs(["one_sweep", "*_sweep", str(tmp_path / "one_sweep")])[0]
    assert sorted(one.explainer for one in runs) == ["lime", "random", "rise"]
    assert not runs[0].folder.is_absolute()
    for asked, words in (([], "runs is not set"), (["nowhere*"], "runs=nowhere.* holds no run.json")):
        with pytest.raises(UserError, match=words):
            find_runs(asked)
    edit_record(tmp_path / "two_sweep" / "0", status="interrupted")
    with pytest.raises(UserError, match=r"no completed run .*interrupted"):
        find_runs(["two_sweep"])


def test_without_random_or_directions_nothing_is_pretended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "sweep" / "0", "grad_cam", {"n_steps": [8.0] * 6}, facts={}, images=6)
    write_report([str(tmp_path / "sweep")], tmp_path / "report")
    assert "no metric with a direction" in capsys.readouterr().out
    assert not list((tmp_path / "report").glob("*.png"))
    assert pd.read_csv(tmp_path / "report" / "summary.csv")["note"].tolist() == ["all 6 values are equal"]
    write_run(tmp_path / "sweep" / "0", "grad_cam", facts=FEW, images=6)
    write_report([str(tmp_path / "sweep")], tmp_path / "report")
    assert "no random baseline was run, so scores cannot be compared with chance" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "report" / "leaderboard.csv")["deletion_beats_random"].isna().all()


@pytest.mark.slow
def test_an_explainer_without_values_is_shown_and_not_ranked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path / "sweep", ["random", "rise"], facts=FEW, images=6)
    gone = {"deletion": [np.nan] * 6, "insertion": list(range(6))}
    write_run(tmp_path / "sweep" / "lime", "lime", gone, facts=FEW, images=6)
    write_report([str(tmp_path / "sweep")], tmp_path / "report")
    board = pd.read_csv(tmp_path / "report" / "leaderboard.csv").set_index("explainer")
    assert np.isnan(board.loc["lime", "deletion"])
    assert board.loc["lime", "deletion_beats_random"] == "untested"
    np.testing.assert_allclose(board["mean_rank_faithfulness"], board["insertion_rank"])
    assert "missing" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_leaves_a_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "sweep", ["random", "grad_cam"], facts=FEW, images=6)
    given = ["hydra.mode=RUN", f"output={tmp_path / 'report'}"]
    tasks.execute(tasks.report, composed("report", [*given, f"runs=[{sweep}]", "faithfulness=deletion"]))
    record = json.loads((tmp_path / "report" / "run.json").read_text())
    assert (record["status"], record["task"], record["images"]) == ("completed", "report", 6)
    assert len(record["runs"]) == 2
    for override, words in (("runs=null", "runs is not set"), ("faithfulness=road", "faithfulness=road is none of")):
        elsewhere = ["hydra.mode=RUN", f"output={tmp_path / words.split('=')[0].split()[0]}"]
        with pytest.raises(SystemExit) as stop:
            tasks.execute(tasks.report, composed("report", [*elsewhere, f"runs={sweep}", override]))
        assert stop.value.code == 2
        assert words in capsys.readouterr().err


CONSTRUCT_FACTS = {
    "average_drop": MetricFact("lower", "a", "faithfulness", variant_of="average_drop"),
    "average_drop_top_half": MetricFact("lower", "b", "faithfulness", variant_of="average_drop"),
    "completeness": MetricFact("lower", "c", "faithfulness", in_mean_rank=False),
    "deletion": MetricFact("lower", "d", "faithfulness"),
    "model_randomization": MetricFact("lower", "e", "randomisation", variant_of="model_randomization"),
    "morf_lerf": MetricFact("higher", "f", "faithfulness", variant_of="deletion"),
    "sparseness": MetricFact("higher", "g", "complexity"),
}
BY_HAND = {  # edges is better than integrated gradients in faithfulness alone
    "edges": (0.1, 0.9, 0.5, 0.1, 0.9, 0.1, 0.2),
    "integrated_gradients": (0.2, 0.3, 0.0, 0.2, 0.4, 0.9, 0.6),
    "random": (0.3, 0.4, 0.9, 0.3, 0.1, 0.2, 0.1),
}


def compare_by_hand(place: Path, facts: dict[str, MetricFact] = CONSTRUCT_FACTS) -> Comparison:
    """Runs with the same value on every image; `facts` picks the metrics."""
    for number, (name, means) in enumerate(BY_HAND.items()):
        chosen = dict(zip(CONSTRUCT_FACTS, means, strict=True))
        write_run(place / f"{number}", name, {key: [chosen[key]] * 6 for key in facts}, facts=facts, images=6)
    return compare_runs(joined(place)[0])


def test_a_mean_rank_exists_inside_a_construct_alone(tmp_path: Path) -> None:
    comparison = compare_by_hand(tmp_path)
    ranks = {construct.title: construct.mean_ranks for construct in comparison.constructs}
    assert ranks == {
        "faithfulness": {"edges": 1, "integrated_gradients": 2, "random": 3},
        "randomisation": {"random": 1, "integrated_gradients": 2, "edges": 3},
        "complexity": {"integrated_gradients": 1, "edges": 2, "random": 3},
    }
    board = comparison.leaderboard
    columns = [column for column in board if "mean_rank" in str(column)]
    assert columns == ["mean_rank_faithfulness", "mean_rank_randomisation", "mean_rank_complexity"]
    assert list(board.index) == ["edges", "integrated_gradients", "random"]
    for title, expected in ranks.items():
        assert board[f"mean_rank_{title}"].to_dict() == expected
    words = text_of(build_leaderboard_table(comparison, 200))
    blocks = dict(zip(("faithfulness", "randomisation", "complexity"), words.split("\n\n")[1:], strict=True))
    for title, block in blocks.items():
        assert block.splitlines()[0] == title
        shown = [line.split()[:2] for line in block.splitlines() if line.split()[0] in ranks[title]]
        assert shown == [[name, f"{rank:.2f}"] for name, rank in ranks[title].items()]


def test_one_form_of_a_score_counts_and_the_others_say_why_not(tmp_path: Path) -> None:
    (faithfulness, *_) = compare_by_hand(tmp_path).constructs
    assert faithfulness.counted == ("average_drop", "deletion")
    assert faithfulness.metrics == ("average_drop", "deletion", "average_drop_top_half", "completeness", "morf_lerf")
    assert faithfulness.reasons == {
        "average_drop_top_half": "another form of average drop",
        "completeness": "no ranking of methods, see its definition",
        "morf_lerf": "another form of deletion",
    }
    assert faithfulness.describe() == (
        "Mean rank over average drop, deletion. Not in it: average drop top half (another form of average drop); "
        "completeness (no ranking of methods, see its definition); morf lerf (another form of deletion)."
    )


def test_where_the_score_itself_was_not_measured_its_first_form_counts(tmp_path: Path) -> None:
    few = {key: CONSTRUCT_FACTS[key] for key in ("average_drop_top_half", "completeness", "morf_lerf")}
    (faithfulness,) = compare_by_hand(tmp_path, few).constructs
    assert faithfulness.counted == ("average_drop_top_half", "morf_lerf")
    assert faithfulness.mean_ranks == {"integrated_gradients": 1, "random": 2, "edges": 3}


@pytest.mark.slow
def test_runs_that_do_not_record_what_they_measured_have_no_mean_rank(tmp_path: Path) -> None:
    facts = {key: MetricFact("lower", fact.variant) for key, fact in CONSTRUCT_FACTS.items()}
    comparison = compare_by_hand(tmp_path / "sweep", facts)
    (construct,) = comparison.constructs
    assert (construct.title, construct.is_ranked) == ("construct not recorded", False)
    assert not [column for column in comparison.leaderboard if "mean_rank" in str(column)]
    assert "No mean rank." in text_of(build_leaderboard_table(comparison))
    write_run(tmp_path / "sweep" / "new", "saliency", images=6, facts={"deletion": CONSTRUCT_FACTS["deletion"]})
    assert compare_runs(joined(tmp_path / "sweep")[0]).joined.facts["deletion"].construct == "faithfulness"
