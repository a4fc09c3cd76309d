"""One verdict a pair, wherever it is shown, and no winner without evidence."""

import io
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from rich.console import Console

from page_text import PageText
from seewhy.report.comparison import Comparison, compare_runs, join_runs
from seewhy.report.html.content import _describe_accuracy as describe_line
from seewhy.report.html.verdict import _describe_accuracy as describe_tile
from seewhy.report.leaderboard import build_leaderboard_table, describe_families, draw_leaderboard, find_mark
from seewhy.report.ranks import draw_ranks
from seewhy.report.runs import find_runs
from seewhy.report.write import write_run_page
from seewhy.statistics.schema import MetricFact
from seewhy.statistics.tests import compare_pairs, compare_with_control, correct_by_holm
from sweep_folder import FACTS as ALL_FACTS
from sweep_folder import QUALITY, write_run, write_sweep

FACTS = {
    "deletion": MetricFact("lower", "AUC", "faithfulness"),
    "insertion": MetricFact("higher", "AUC", "faithfulness"),
}


def compared(folder: Path) -> Comparison:
    return compare_runs(join_runs(find_runs([str(folder)])[0])[0])


def build(folder: Path, shifts: dict[str, float], images: int = 12) -> Comparison:
    """Methods whose deletion is that of random less a shift, with noise of 0.01."""
    generator = np.random.default_rng(0)
    base = generator.normal(size=images)
    for method, shift in shifts.items():
        noise = 0.01 * generator.normal(size=images)
        write_run(folder / method, method, {"deletion": base - shift + noise}, images=images, facts=FACTS)
    return compared(folder)


def write_table(comparison: Comparison, styles: bool = False) -> str:
    """What the terminal shows."""
    written = io.StringIO()
    console = Console(width=200, file=written, force_terminal=styles, color_system="standard" if styles else None)
    console.print(build_leaderboard_table(comparison, 200))
    return written.getvalue()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    folder = write_sweep(tmp_path_factory.mktemp("sweep"), facts=FACTS, images=12, effect=0.05)
    return folder, compared(folder)


def test_the_families_of_a_metric_are_corrected_apart() -> None:
    values = pd.DataFrame(np.random.default_rng(3).normal(size=(14, 5)) + np.arange(5) / 3, columns=list("abcde"))
    pairs = compare_pairs(values, "higher", control="c")
    for control, count, words in ((True, 4, "4 comparisons with c"), (False, 6, "6 other pairs")):
        family = pairs[((pairs["explainer"] == "c") | (pairs["other"] == "c")) == control]
        assert (len(family), set(family["family"])) == (count, {words})
        np.testing.assert_array_equal(family["p_holm"], correct_by_holm(family["p"].to_numpy()))
    alone = compare_pairs(values, "higher")
    assert set(alone["family"]) == {"10 pairs"}
    np.testing.assert_array_equal(alone["p_holm"], correct_by_holm(alone["p"].to_numpy()))


@pytest.mark.slow
def test_a_pair_has_one_verdict_in_tables_ranks_page_and_figure(swept: tuple[Path, Comparison]) -> None:
    folder, comparison = swept
    page = PageText(write_run_page(folder))
    cells = {(cell["data-explainer"], cell["data-metric"]): cell for cell in page.cells if "data-low" in cell}
    seen = set()
    for metric in FACTS:
        pairs = comparison.pairwise[comparison.pairwise["metric"] == metric]
        verdicts = comparison.verdicts[comparison.verdicts["metric"] == metric].set_index("explainer")
        for name in set(QUALITY) - {"random"}:
            (row,) = pairs[pairs[["explainer", "other"]].isin([name, "random"]).all(axis=1)].to_dict("records")
            assert (row["p_holm"], row["test"]) == (verdicts["p"][name], verdicts["test"][name])
            expected = {name: "yes", "random": "worse", "": "no"}[row["winner"]]
            assert comparison.get_verdict(name, metric) == expected
            assert ("best" in cells[name, metric]["class"]) == (name in comparison.list_leaders(metric))
            assert find_mark(comparison, name, metric) in (expected, "best")
            seen.add(expected)
        ties = comparison.find_ties(metric)
        for pair in combinations(sorted(QUALITY), 2):
            (row,) = pairs[pairs[["explainer", "other"]].isin(pair).all(axis=1)].to_dict("records")
            assert any(set(pair) <= set(group) for group in ties) == (row["winner"] == "")
    assert seen >= {"yes", "no"}
    assert (
        "Holm's correction, for each score over the 8 comparisons with random and over the 28 other pairs" in page.text
    )
    assert "critical difference" not in page.text + " ".join(
        text.get_text() for text in draw_ranks(comparison).axes[0].texts
    )


@pytest.mark.slow
def test_the_charts_of_differences_are_the_table_of_pairs(swept: tuple[Path, Comparison]) -> None:
    folder, comparison = swept
    html = write_run_page(folder).read_text()
    for metric, sign in (("deletion", -1), ("insertion", 1)):
        (chart,) = re.findall(rf'<figure data-metric="{metric}">(.*?)</figure>', html, re.S)
        drawn = re.findall(r'data-method="(\w+)" data-value="([-\d.e]+)" data-verdict="(\w+)"', chart)
        assert [name for name, _, _ in drawn] == [name for name in comparison.explainers if name != "random"]
        means = comparison.leaderboard[metric]
        for name, value, verdict in drawn:
            assert float(value) == pytest.approx(sign * (means[name] - means["random"]), rel=1e-4)
            assert verdict == comparison.get_verdict(name, metric)
        assert chart.count('class="hollow"') == sum(verdict != "yes" for _, _, verdict in drawn)


def test_the_control_is_compared_as_in_the_table_of_pairs() -> None:
    values = pd.DataFrame(
        np.random.default_rng(5).normal(size=(20, 4)) + np.arange(4), columns=["a", "b", "random", "z"]
    )
    values.iloc[3, 0] = np.nan
    pairs = compare_pairs(values, "lower", 7, control="random")
    verdicts = compare_with_control(values, "lower", "random", 7).set_index("explainer")["p"]
    for row in pairs[pairs["family"].str.contains("random")].itertuples():
        assert row.p_holm == verdicts[row.other if row.explainer == "random" else row.explainer]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shifts", "leaders"),
    [
        ({"random": 0, "rise": -1, "grad_cam": -2}, []),  # random has the best mean
        ({"random": 0, "rise": 0.001, "grad_cam": 0}, []),  # nothing beats random
        ({"random": 0, "edges": 2, "rise": 1, "grad_cam": 0}, []),  # a control is better than every method
        ({"random": 0, "edges": 1, "rise": 2, "grad_cam": 0}, ["rise"]),
        ({"random": 0, "rise": 2, "grad_cam": 2, "lime": 1}, ["grad_cam", "rise"]),  # not told apart
        ({"rise": 2, "grad_cam": 1, "lime": 1}, ["rise"]),
        ({"rise": 0, "grad_cam": 0.001}, []),
    ],
)
def test_leaders_have_evidence(tmp_path: Path, shifts: dict[str, float], leaders: list[str]) -> None:
    comparison = build(tmp_path, shifts)
    assert sorted(comparison.list_leaders("deletion")) == leaders
    marks = {name: find_mark(comparison, name, "deletion") for name in shifts}
    assert sorted(name for name, mark in marks.items() if mark == "best") == leaders
    lines = write_table(comparison, styles=True).splitlines()
    rows = {line.split()[0]: line for line in lines if line.split() and line.split()[0] in shifts}
    assert sorted(name for name, line in rows.items() if "\x1b[1m" in line) == leaders


@pytest.mark.slow
def test_an_order_without_evidence_is_called_so(tmp_path: Path, swept: tuple[Path, Comparison]) -> None:
    comparison = build(tmp_path, {"random": 0, "rise": 0.001, "grad_cam": -1})
    (construct,) = comparison.constructs
    words = "No method is significantly better than random on any of these scores: the order is no evidence."
    assert comparison.describe_evidence(construct) == words
    assert comparison.get_verdict("grad_cam", "deletion") == "worse"
    page = PageText(write_run_page(tmp_path))
    assert words in page.text
    assert words in " ".join(text.get_text() for text in draw_leaderboard(comparison).axes[0].texts)
    printed = write_table(comparison)
    assert words in printed
    assert "n.s." in printed
    assert " worse" in printed
    assert "≈" not in printed + page.text
    assert swept[1].describe_evidence(swept[1].constructs[0]) == ""


def test_mean_ranks_have_the_interval_of_their_images(swept: tuple[Path, Comparison]) -> None:
    _, comparison = swept
    (construct,) = comparison.constructs
    tables = [comparison.ranks[metric].by_image for metric in construct.counted]
    for name, mean in construct.mean_ranks.items():
        of_images = (tables[0][name] + tables[1][name]) / 2
        assert of_images.mean() == pytest.approx(mean)
        low, high = construct.intervals[name]
        half = 2.3 * of_images.std(ddof=1) / len(of_images) ** 0.5
        assert low <= mean <= high
        assert high - low == pytest.approx(2 * half, rel=0.5)


@pytest.mark.slow
def test_a_control_that_is_not_beaten_is_named(tmp_path: Path) -> None:
    comparison = build(tmp_path, {"random": 0, "edges": 2, "centre": 0.5, "rise": 2})
    assert comparison.list_leaders("deletion") == ["rise"]
    assert comparison.list_rivals("rise", "deletion") == ["edges"]
    assert "but not significantly better than edges" in PageText(write_run_page(tmp_path)).text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shifts", "words"),
    [
        (
            {"random": 0, "edges": 2, "rise": 1, "grad_cam": 0},
            "no method leads: rise beats random, but edges is better still",
        ),
        (
            {"random": 0, "edges": 2, "rise": 0},
            "no method is significantly better than random, but the control edges is",
        ),
        ({"random": 0, "rise": -1, "grad_cam": 0}, "On deletion no method is significantly better than random."),
        (
            {"rise": 0, "grad_cam": 0, "lime": 0},
            "No random baseline was run, so scores cannot be compared with chance.",
        ),
    ],
)
def test_the_verdict_says_why_nothing_leads(tmp_path: Path, shifts: dict[str, float], words: str) -> None:
    build(tmp_path, shifts)
    assert words in PageText(write_run_page(tmp_path)).text


@pytest.mark.slow
def test_reasons_of_different_scores_are_kept_apart(tmp_path: Path) -> None:
    base, noise = np.random.default_rng(0).normal(size=(2, 12))
    shifts = {"random": (0, 0), "edges": (2, 0), "rise": (0, 0)}
    for number, (method, (deletion, insertion)) in enumerate(shifts.items()):
        own = 0.01 * np.random.default_rng(number).normal(size=12)
        scores = {"deletion": base - deletion + own, "insertion": noise + insertion + own}
        write_run(tmp_path / method, method, scores, images=12, facts=FACTS)
    text = PageText(write_run_page(tmp_path)).text
    assert "On deletion no method is significantly better than random, but the control edges is" in text
    assert "on insertion no method is significantly better than random." in text


def test_without_a_baseline_all_pairs_are_one_family(tmp_path: Path) -> None:
    comparison = build(tmp_path, {"rise": 2, "grad_cam": 1, "lime": 1})
    assert "over the 3 pairs;" in describe_families(comparison)
    assert comparison.describe_evidence(comparison.constructs[0]) == ""


@pytest.mark.slow
def test_legends_name_random_only_where_it_was_run(tmp_path: Path) -> None:
    shifts = {"saliency": 0.0, "grad_cam": 0.5}
    comparison = build(tmp_path / "without", shifts)
    assert comparison.list_leaders("deletion") == ["grad_cam"]
    page = write_run_page(tmp_path / "without").read_text()
    chart = " ".join(text.get_text() for text in draw_leaderboard(comparison).findobj(Text))
    for words in (page, write_table(comparison), chart):
        assert "better than another method, and no method is significantly better" in re.sub(r"\s+", " ", words)
        assert "better than random" not in words
    assert "dashed line" not in chart
    with_random = build(tmp_path / "with", {"random": 0.0, **shifts})
    assert "better than random, and no method" in write_table(with_random)
    assert "dashed line" in " ".join(text.get_text() for text in draw_leaderboard(with_random).findobj(Text))


def test_a_page_without_scores_asks_for_no_baseline(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "grad_cam", {"coverage": [0.5] * 4}, images=4, facts={"coverage": ALL_FACTS["coverage"]})
    page = write_run_page(tmp_path / "0").read_text()
    assert "explainer=random" not in page
    assert "Random baseline" not in page


@pytest.mark.parametrize(
    ("correct", "probability", "line", "tile"),
    [
        (["yes", "no", "", ""], "0.9", "50.0 % (1 of 2); 1 image has a label that is no class of this network, cat",
         ("50.0 %", "1 of 2; 1 with other labels")),
        (["", "", "", ""], "0.9", "3 images have labels that are no classes of this network, such as cat",
         ("–", "no label is a class of the network")),
        (["", "", "", ""], "", "", ("–", "no labels")),
        (["yes", "yes", "no", ""], "0.9", "66.7 % (2 of 3)", ("66.7 %", "2 of 3")),
    ],
)  # fmt: skip
def test_labels_that_are_no_classes_are_told_from_wrong_answers(
    correct: list[str], probability: str, line: str, tile: tuple[str, str], tmp_path: Path
) -> None:
    """The last of four images has no label."""
    run = find_runs([str(write_run(tmp_path, "saliency", images=4))])[0][0]
    run.predictions["correct"], run.predictions["probability"] = correct, probability
    run.predictions["label"] = ["cat", "cat", "cat", ""]
    assert (describe_line(run), describe_tile(run)) == (line, tile)
