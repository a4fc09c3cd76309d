"""The evidence of a page, by hand: differences from random, sanity strip, curves of an image, classes, dots, tabs."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from page_text import PageText
from seewhy.plots.curves import GRID, compute_difference_curve
from seewhy.report.comparison import Comparison, compare_runs, join_runs
from seewhy.report.html import gallery
from seewhy.report.html.charts import build_agreement_chart, build_difference_curves, build_sanity_strip
from seewhy.report.html.classes import build_class_table
from seewhy.report.html.gallery import collect_curves
from seewhy.report.html.robustness import build_kept_chart
from seewhy.report.runs import find_runs
from seewhy.report.write import write_run_page
from seewhy.statistics.schema import MetricFact
from sweep_folder import names, write_run

FACTS = {
    "deletion": MetricFact("lower", "AUC", "faithfulness"),
    "model_randomization": MetricFact("lower", "similarity", "randomisation"),
    "stability": MetricFact("higher", "similarity", "robustness"),
}
IMAGES = 12
LABELS = ["cat"] * 6 + ["dog"] * 4 + ["hen"] * 2
GUESSES = ["cat", "fox", "fox", "hen", "cat", "cat", *["dog"] * 4, "cat", "hen"]


def write_curves(folder: Path, heights: dict[str, float], shares: np.ndarray) -> None:
    rows = [
        (image, "x", "deletion/black", share, 9.0, height * (1 - share))
        for image, height in heights.items()
        for share in shares
    ]
    columns = ["image", "explainer", "curve", "share", "logit", "probability"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "curves.csv", index=False)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """random, rise and lime on 12 images of three classes; image 7 stands out in rise's deletion."""
    folder = tmp_path_factory.mktemp("sweep")
    means = {"random": (0.5, 1.0, 0.0), "rise": (0.2, 0.3, 0.9), "lime": (0.4, 0.6, 0.5)}
    for seed, (method, centre) in enumerate(means.items()):
        noise = np.random.default_rng(seed).normal(size=(3, IMAGES)) * 0.01
        values = {
            metric: list(mean + each)
            for (metric, mean), each in zip(zip(FACTS, centre, strict=True), noise, strict=True)
        }
        if method == "rise":
            values["deletion"][7] = 0.9
        run = write_run(folder / method, method, values, images=IMAGES, facts=FACTS)
        table = pd.read_csv(run / "predictions.csv", dtype=str).assign(label=LABELS, predicted=GUESSES)
        right = ["yes" if label == guess else "no" for label, guess in zip(LABELS, GUESSES, strict=True)]
        chances = [f"{0.3 + 0.05 * number:.2f}" for number in range(IMAGES)]
        table.assign(correct=right, probability=chances).to_csv(run / "predictions.csv", index=False)
        heights = {name: 0.4 + 0.02 * number + 0.1 * seed for number, name in enumerate(names(IMAGES))}
        write_curves(run, heights, np.linspace(0, 1, 11))
    write_run_page(folder)
    return folder


@pytest.fixture(scope="module")
def comparison(swept: Path) -> Comparison:
    (joined,) = join_runs(find_runs([str(swept)])[0])
    return compare_runs(joined)


def test_a_difference_is_that_of_the_same_images() -> None:
    def make(heights: dict[str, float], shares: list[float]) -> pd.DataFrame:
        rows = [(image, share, height) for image, height in heights.items() for share in shares]
        return pd.DataFrame(rows, columns=["image", "share", "probability"]).assign(curve="deletion/black")

    method = make({"c": 0.9, "a": 0.5, "b": 0.7}, [0.0, 0.5, 1.0])
    control = make({"a": 0.3, "b": 0.4, "c": 0.5, "d": 0.0}, [0.0, 1.0])
    found = compute_difference_curve(method, control)
    assert found is not None
    shares, mean, low, high = found
    np.testing.assert_array_equal(shares, GRID)
    np.testing.assert_allclose(mean, (0.2 + 0.3 + 0.4) / 3)
    half = 4.302652729911275 * 0.1 / math.sqrt(3)  # Student's t of two degrees of freedom
    np.testing.assert_allclose([low[0], high[0]], [0.3 - half, 0.3 + half])
    assert compute_difference_curve(method, make({"d": 0.0}, [0.0, 1.0])) is None


def test_curves_as_differences_from_random_leave_random_out(swept: Path) -> None:
    tables = {name: pd.read_csv(swept / name / "curves.csv") for name in ("lime", "random", "rise")}
    (chart,) = build_difference_curves(tables, "random")
    assert [(line.name, line.style) for line in chart.lines] == [("lime", 0), ("rise", 2)]
    np.testing.assert_allclose(chart.lines[1].y, 0.1 * (1 - GRID), atol=1e-12)
    zero = float(re.findall(r'class="zero" d="M\d+ ([\d.]+)H', str(chart.svg()))[0])
    heights = [
        float(y)
        for _, y in re.findall(r"([\d.]+) ([\d.]+)", re.findall(r'class="line c2" d="(.*?)"', str(chart.svg()))[0])
    ]
    assert heights[0] < heights[-1] == pytest.approx(zero, abs=0.1)
    assert build_difference_curves(tables, None) == build_difference_curves({}, "random") == []


def test_the_sanity_strip_holds_the_scores_on_one_scale(comparison: Comparison) -> None:
    charts = {chart.metric: chart for chart in build_sanity_strip(comparison)}
    assert list(charts) == ["random weights", "small noise"]
    for changed, metric in (("random weights", "model_randomization"), ("small noise", "stability")):
        rows = {row[0]: row for row in charts[changed].rows}
        for name in comparison.explainers:
            assert rows[name][1:4] == comparison.get_mean(name, metric)
            assert rows[name][4] == comparison.get_verdict(name, metric)
        assert charts[changed].ends == (0.0, 1.0)
    assert "left: better" in charts["random weights"].words
    assert "right: better" in charts["small noise"].words


def test_the_curves_of_an_image_are_rows_of_its_file(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {name: pd.read_csv(swept / name / "curves.csv") for name in ("rise", "random")}
    tables["random"] = tables["random"][tables["random"]["share"] != 0.5]
    tables["random"] = tables["random"].sample(frac=1, random_state=0)
    ((curve,), own) = collect_curves(tables, ["lime", "rise", "random"], 36)
    assert (curve["name"], curve["quantity"], curve["axis"]) == (
        "deletion/black",
        "probability",
        "fraction of pixels removed",
    )
    lime, rise, control = own["image_0003"][0]
    assert lime is None
    assert rise == [[float(f"{0.56 * (1 - share):.4g}") for share in curve["shares"]]]
    assert control is not None
    assert control[1] == [share for share in curve["shares"] if share != 0.5]
    monkeypatch.setattr(gallery, "CURVE_VALUES", 0)
    monkeypatch.setattr(gallery, "LEAST_POINTS", 3)
    ((curve,), own) = collect_curves(tables, ["rise"], 36)
    assert curve["shares"] == [0, 0.5, 1]
    assert own["image_0000"][0][0] == [[0.5, 0.25, 0]]


def test_classes_have_confusions_scores_and_outliers(swept: Path, comparison: Comparison) -> None:
    (run, *_) = find_runs([str(swept / "rise")])[0]
    table = build_class_table(comparison, run.images)
    assert [metric for metric, _ in table.columns] == ["deletion", "model_randomization", "stability"]
    assert table.methods == ["rise", "lime"]
    assert [(row["label"], row["n"], row["accuracy"]) for row in table.rows] == [
        ("cat", 6, 0.5),
        ("hen", 2, 0.5),
        ("dog", 4, 1.0),
    ]
    assert table.rows[0]["confused"] == [("fox", 2), ("hen", 1)]
    assert table.rows[2]["confused"] == []
    scores = pd.concat([pd.read_csv(swept / name / "metrics.csv") for name in table.methods])
    scores = scores[(scores["metric"] == "deletion") & scores["image"].isin(names(IMAGES)[:6])]
    assert table.rows[0]["scores"][0] == pytest.approx(scores["value"].mean())
    (outlier,) = [each for each in table.rows[2]["outliers"] if each[1] == "deletion"]
    assert outlier[0] == "image_0007"
    assert outlier[2] == pytest.approx(0.65, abs=0.03)
    page = (swept / "report.html").read_text()
    assert 'data-open="image_0007"' in page
    assert "fox (2), hen (1)" in page


def test_dots_are_images_with_both_numbers() -> None:
    rows = [("a", 0.2, 0.5, "yes"), ("b", 0.9, -0.3, "no"), ("c", math.nan, 0.1, ""), ("d", 0.4, math.nan, "")]
    facts = [dict(zip(("name", "probability", "agreement", "correct"), row, strict=True)) for row in rows]
    chart = build_agreement_chart(facts)
    assert chart is not None
    drawn = re.findall(r'class="dot (\w*)" cx="([\d.]+)" cy="([\d.]+)" r="4" data-image="(\w)"', str(chart.svg()))
    assert [(kind, name) for kind, _, _, name in drawn] == [("right", "a"), ("wrong", "b")]
    assert float(drawn[0][1]) < float(drawn[1][1])  # the more probable is further right
    assert float(drawn[0][2]) < float(drawn[1][2])  # and y grows downwards
    assert build_agreement_chart(facts[:1]) is None


def test_maps_under_corruption_are_split_by_the_prediction() -> None:
    rows = [
        ("a", "clean", 0, "no", 1.0),
        ("a", "fog", 1, "no", 0.8), ("a", "snow", 1, "no", 0.6), ("b", "fog", 1, "no", 0.4), ("b", "snow", 1, "yes", 0.1),
        ("a", "fog", 2, "yes", 0.3), ("a", "snow", 2, "yes", ""), ("b", "fog", 2, "yes", 0.5), ("b", "snow", 2, "no", 0.9),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["image", "corruption", "level", "flip", "rise_spearman"])
    chart = build_kept_chart(table, ["rise", "lime"])
    assert chart is not None
    kept, changed = chart.lines
    assert (kept.name, changed.name) == ("rise, prediction kept", "rise, prediction changed")
    assert (list(kept.x), list(kept.y)) == ([1, 2], pytest.approx([0.55, 0.9]))  # a: 0.7, b: 0.4; b alone
    assert (list(changed.x), list(changed.y)) == ([1, 2], pytest.approx([0.1, 0.4]))
    assert build_kept_chart(table, ["lime"]) is None


def test_every_construct_is_a_panel_and_every_head_sorts(swept: Path) -> None:
    page = (swept / "report.html").read_text()
    assert re.findall(r'class="panel" data-title="(\w+)"', page) == ["Faithfulness", "Randomisation", "Robustness"]
    heads = re.findall(r'<th scope="col" class="number" data-better="(\w+)">(\w+)', page)
    assert ("lower", "deletion") in heads
    assert ("higher", "stability") in heads
    blocks = PageText(swept / "report.html")
    picture, maps, curves = blocks.json_of("block-0-0")
    assert (picture, maps) == ("", ["", "", ""])
    shares = blocks.facts["models"][0]["curves"][0]["shares"]
    assert len(curves[0][0][0]) == len(shares) == 11
    assert json.dumps(curves).count("null") == 0
