"""What a page says equals the files of its runs: verdict, suspicion, agreement, coverage, classes, groups of runs."""

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from page_text import PageText
from seewhy.plots.text import format_probability
from seewhy.report.comparison import compare_runs, join_runs
from seewhy.report.html.charts import (
    BOTTOM,
    HEIGHT,
    TOP,
    Chart,
    IntervalChart,
    Line,
    build_curve_charts,
    name_line_style,
)
from seewhy.report.html.gallery import Method
from seewhy.report.html.maps import group_twins, relate_maps
from seewhy.report.html.robustness import build_robustness_view
from seewhy.report.html.verdict import _judge
from seewhy.report.runs import find_runs
from seewhy.report.write import write_report, write_run_page
from seewhy.statistics.schema import MetricFact
from sweep_folder import edit_record, names, write_run

GAP = "completeness_gap_relative"
FACTS = {
    "deletion": MetricFact("lower", "AUC", "faithfulness"),
    "average_drop": MetricFact("lower", "kept", "faithfulness"),
    "average_drop_coverage": MetricFact(None, "kept", "faithfulness"),
    GAP: MetricFact(None, "gap"),
}
IMAGES = 8


def write_maps(folder: Path, maps: list[np.ndarray]) -> None:
    (folder / "attributions").mkdir(exist_ok=True)
    for name, values in zip(names(len(maps)), maps, strict=True):
        np.save(folder / "attributions" / f"{name}.npy", values.astype(np.float32))


def set_predictions(folder: Path, **columns: list[str]) -> None:
    table = pd.read_csv(folder / "predictions.csv", dtype=str)
    table.assign(**columns).to_csv(folder / "predictions.csv", index=False)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(24, 24))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """random, a class activation map, its near twin, and a signed method whose maps contradict both on image 3."""
    folder = tmp_path_factory.mktemp("sweep")
    places = [np.maximum(noise(seed), 0) for seed in range(IMAGES)]
    against = [(-1 if seed == 3 else 1) * places[seed] + 0.3 * noise(50 + seed) for seed in range(IMAGES)]
    signs = {"random": (True, False), "grad_cam": (False, True), "layer_cam": (False, True), "rise": (True, False)}
    maps = {
        "random": [noise(20 + seed) for seed in range(IMAGES)],
        "grad_cam": places,
        "layer_cam": [each**1.1 for each in places],
        "rise": against,
    }
    means = {"random": 0.9, "grad_cam": 0.2, "layer_cam": 0.21, "rise": 0.5}
    for method, (signed, rectified) in signs.items():
        generator = np.random.default_rng(len(method))
        gaps = [0.002] * IMAGES
        gaps[5], gaps[1] = 0.243, 0.03
        scores = {
            "deletion": means[method] + 0.02 * generator.normal(size=IMAGES),
            "average_drop": means[method] + 0.02 * generator.normal(size=IMAGES),
            "average_drop_coverage": [0.62 if "cam" in method else 0.1] * IMAGES,
        }
        scores |= {GAP: gaps} if method == "rise" else {}
        run = write_run(folder / method, method, scores, images=IMAGES, facts=FACTS)
        record = {"name": method, "parameters": "", "target": "predicted", "signed": signed, "rectified": rectified}
        edit_record(run, explainer=record | ({"tolerance": 0.01} if method == "rise" else {}))
        write_maps(run, maps[method])
        right = ["yes"] * IMAGES
        right[2] = right[6] = "no"
        labels = ["cat", "cat", "cat", "dog", "dog", "hen", "hen", "hen"]
        guesses = [label if ok == "yes" else "fox" for label, ok in zip(labels, right, strict=True)]
        chances = [0.9, 0.9, 0.997, 0.9, 0.9, 0.9, 0.31, 0.9]
        set_predictions(
            run, correct=right, label=labels, predicted=guesses, probability=[str(each) for each in chances]
        )
    write_run_page(folder)
    return folder


@pytest.fixture(scope="module")
def page(swept: Path) -> PageText:
    return PageText(swept / "report.html")


def test_the_verdict_names_leaders_with_their_evidence(swept: Path, page: PageText) -> None:
    (joined,) = join_runs(find_runs([str(swept)])[0])
    comparison = compare_runs(joined)
    assert {"grad_cam"} <= set(comparison.list_leaders("deletion")) <= {"grad_cam", "layer_cam"}
    mean, p = comparison.leaderboard["deletion"], comparison.leaderboard["deletion_p_random"]
    leader = comparison.list_leaders("average_drop")[0]
    assert f"{leader}, average drop: {comparison.leaderboard['average_drop'][leader]:.3f} against " in page.text
    assert f"n = {IMAGES}, p = {p['grad_cam']:.3f})" in page.text
    assert mean["random"] > mean["grad_cam"]


def test_the_tiles_count_what_the_files_hold(page: PageText) -> None:
    html = page.text
    assert re.search(r"Accuracy\s*75\.0 %\s*6 of 8", html)
    assert re.search(rf"Images\s*{IMAGES}\s", html)
    assert re.search(r"Warnings\s*2\s*on 2 images", html)
    assert re.search(r"Random baseline\s*yes", html)


@pytest.mark.parametrize(
    ("leaders", "words"),
    [
        (["a"], "a leads on deletion"),
        (["a", "b"], "a and b lead on deletion"),
        (["a", "b", "c"], "a, b and c lead on d"),
    ],
)
def test_several_leaders_lead(leaders: list[str], words: str) -> None:
    joined = SimpleNamespace(images=30, control=None)
    construct = SimpleNamespace(counted=["deletion"], metrics=["deletion"])
    comparison: Any = SimpleNamespace(
        joined=joined,
        ranks={"deletion": None},
        constructs=[construct],
        pairwise=pd.DataFrame({"metric": ["deletion"]}),
        explainers=["a", "b", "c"],
        list_leaders=lambda metric: leaders,
    )
    methods: Any = [None] * 3
    assert _judge(comparison, methods).startswith(words)


def test_a_chart_of_intervals_has_its_numbers_below() -> None:
    svg = str(IntervalChart("deletion", "lower", [("a", 0.5, 0.4, 0.6, "yes", False)]).svg())
    assert re.findall(r'text-anchor="middle">(.*?)<', svg)[:-1] == ["0", "0.2", "0.4", "0.6"]


def test_the_verdict_and_the_pictures_stand_before_all_else(swept: Path) -> None:
    html = (swept / "report.html").read_text()
    order = [html.index(f'id="{name}"') for name in ("verdict", "focus", "leaderboard", "gallery", "classes", "run")]
    assert order == sorted(order)


def test_suspicious_images_come_with_their_reasons(page: PageText) -> None:
    images = page.facts["models"][0]["images"]
    order = sorted(range(IMAGES), key=lambda i: -images[i]["suspicion"])
    assert set(order[:2]) == {2, 3}
    assert set(order[:5]) == {1, 2, 3, 5, 6}
    assert order.index(5) < order.index(1)  # a gap of 24 % before one of 3 %
    assert images[2]["reasons"] == ["confidently misclassified with probability > 0.99: fox for cat"]
    assert images[6]["reasons"] == ["misclassified with probability 0.31: fox for hen"]
    assert images[5]["reasons"][0] == "rise: completeness gap 24.3 % exceeds the 1 % tolerance"
    assert images[3]["reasons"][0].startswith("sign conflict: ")
    assert images[0]["reasons"] == ["no warning; probability 0.90"]


def test_warnings_are_beside_the_map_and_the_worst_comes_first(page: PageText) -> None:
    (model,) = page.facts["models"]
    rise = [one["name"] for one in model["explainers"]].index("rise")
    words = {i: image["concerns"][rise] for i, image in enumerate(model["images"]) if any(image["concerns"])}
    assert words == {i: f"completeness gap {gap} % exceeds the 1 % tolerance" for i, gap in ((5, "24.3"), (1, "3.0"))}
    assert (
        "rise: completeness gap exceeds the 1 % tolerance on 2 images (image_0005 24.3 %, image_0001 3 %)" in page.text
    )


def test_agreement_minds_signs_and_near_twins(page: PageText) -> None:
    (model,) = page.facts["models"]
    assert model["twins"] == [["grad_cam", "layer_cam"]]
    for seed, image in enumerate(model["images"]):
        assert (image["agreement"] < 0) == (seed == 3)  # twins that agree do not outvote the one that contradicts
        assert (image["conflict"]["share"] > 0.9) == (seed == 3)
        assert image["conflict"]["in"] == "rise"


def test_pairs_of_maps_by_hand() -> None:
    signed = np.array([[3.0, -2.0], [1.0, -1.0]], np.float32)
    rectified, sizes = np.array([[0.0, 5.0], [1.0, 0.0]], np.float32), np.array([[3.0, 2.0], [1.0, 0.5]], np.float32)
    pairs = relate_maps([(signed, True, True), (rectified, False, True), (sizes, False, False)])
    assert pairs.correlations[0, 1] < 0 < pairs.correlations[0, 2]
    assert pairs.conflicts[1, 0] == 1.0  # the strongest cell of the rectified map is negative in the signed one
    assert np.isnan(pairs.conflicts[2, 0])  # magnitudes claim no direction
    assert np.isnan(pairs.conflicts[0, 1])  # a rectified map has no negative values
    assert pairs.conflicts[0, 0] != pairs.conflicts[0, 0]
    assert group_twins([]) == []


def test_coverage_stands_beside_its_score(swept: Path) -> None:
    html = (swept / "report.html").read_text()
    rows = dict(re.findall(r'<tr[^>]* data-explainer="(\w+)"><th.*?</th>(.*?)</tr>', html.split("All scores")[0], re.S))
    for name, row in rows.items():
        covered = re.findall(r'coverage" data-value="([\d.]+)"', row)
        assert [float(value) for value in covered] == [0.62 if "cam" in name else 0.1]


def test_classes_are_those_of_predictions(swept: Path, page: PageText) -> None:
    table = pd.read_csv(swept / "rise" / "predictions.csv")
    cells = {cell["data-label"]: float(cell["data-value"]) for cell in page.cells if "data-label" in cell}
    expected = (table["correct"] == "yes").groupby(table["label"]).mean()
    assert list(cells) == ["cat", "hen", "dog"]
    assert all(cells[name] == pytest.approx(value, abs=1e-6) for name, value in expected.items())


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.997, "> 0.99"), (0.655, "0.66"), (1.0, "1.00"), (0.0, "0.00"), (0.002, "0.002"), (0.87, "0.87")],
)
def test_rounding_makes_nothing_certain(value: float, words: str) -> None:
    assert format_probability(value) == words


@pytest.mark.slow
def test_runs_on_different_images_get_a_page_each_and_an_index(tmp_path: Path) -> None:
    other = {"name": "cifar_cnn", "weights": "shipped", "weights_sha256": "c" * 64}
    for method in ("random", "rise"):
        write_run(tmp_path / f"a_{method}", method, facts={"deletion": FACTS["deletion"]}, images=6)
        write_run(tmp_path / f"b_{method}", method, facts={"deletion": FACTS["deletion"]}, images=9, model=other)
    index = PageText(write_run_page(tmp_path))
    files = [address for address in index.addresses if address.endswith(".html")]
    assert files == ["report_efficientnet_lite0.html", "report_cifar_cnn.html"]
    assert index.scripts == []
    for file, model, images in zip(files, ("efficientnet_lite0", "cifar_cnn"), (6, 9), strict=True):
        (facts,) = PageText(tmp_path / file).facts["models"]
        assert (facts["model"], len(facts["images"])) == (model, images)
        assert f"{images} images, target class: the model's prediction" in index.text


def test_curves_have_bands_and_controls_their_own_dash() -> None:
    generator = np.random.default_rng(0)
    tables = {}
    for name in ("random", "edges", "centre", "rise"):
        rows = [(f"i{i}", "deletion/black", x, generator.random()) for i in range(9) for x in np.linspace(0, 1, 6)]
        tables[name] = pd.DataFrame(rows, columns=["image", "curve", "share", "probability"])
    (chart,) = build_curve_charts(tables, ["random", "edges", "centre"])
    assert all(len(line.low) == len(line.x) for line in chart.lines)
    assert chart.svg().count('class="band') == 4
    assert len({name_line_style(line) for line in chart.lines}) == 4
    assert chart.x_label == "fraction of pixels removed"


def test_charts_of_probabilities_share_one_axis() -> None:
    def read_axis(values: list[float], low: float, high: float) -> list[str]:
        line = Line("rise", 0, [0.0, 1.0], values, [low, low], [high, high])
        svg = str(Chart("insertion", "fraction of pixels inserted", [line]).svg())
        heights = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", re.findall(r'band c0" d="(.*?)"', svg)[0])]
        assert TOP - 0.1 <= min(heights) <= max(heights) <= HEIGHT - BOTTOM + 0.1
        return re.findall(r'text-anchor="end">(.*?)<', svg)

    assert read_axis([0.1, 0.9], -0.2, 1.3) == read_axis([0.4, 0.5], 0.3, 0.6) == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert read_axis([-1.5, 3.0], -2.0, 4.0) == ["−2", "0", "2", "4"]


@pytest.mark.slow
def test_a_robustness_page_holds_the_most_severe_sheets_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path, "rise", facts={"deletion": FACTS["deletion"]}, images=6)
    columns = ["corruption", "level", "quantity", "n", "mean", "low", "high", "median", "note"]
    rows = [
        ["clean", "0", "accuracy", 6, 0.997, 0.9, 1.0, 1.0, ""],
        ["fog", "1", "accuracy", 6, 0.5, 0.4, 0.6, 0.5, ""],
    ]
    pd.DataFrame(rows, columns=columns).assign(value=[0.997, 0.5]).to_csv(run / "robustness_summary.csv", index=False)
    (run / "robustness").mkdir()
    for level in (1, 2, 3):
        for suffix in ("", "_rise"):
            content = io.BytesIO()
            Image.fromarray(np.random.default_rng(level).integers(0, 256, (600, 700, 3), np.uint8)).save(content, "PNG")
            (run / "robustness" / f"level_{level}{suffix}.png").write_bytes(content.getvalue())
    ((joined,), *_) = (find_runs([str(run)])[0],)
    view = build_robustness_view(Method("rise", joined, True, False))
    assert view is not None
    assert [words for words, _ in view.sheets] == ["level 3, images", "level 3, maps of rise"]
    assert view.left_out == 4
    html = write_run_page(tmp_path).read_text()
    assert "the other 4 sheets" in html
    assert "Accuracy is &gt; 0.99 on the clean images and lowest, 0.50, under fog at severity 1." in html
    assert ">&gt; 0.99</td>" in html


@pytest.mark.slow
def test_figures_are_named_from_the_page_and_no_other_folder_is(swept: Path, tmp_path: Path) -> None:
    folders = {
        one["name"]: (one["folder"], one["below"])
        for one in PageText(swept / "report.html").facts["models"][0]["explainers"]
    }
    assert folders == {name: (name, True) for name in ("random", "grad_cam", "layer_cam", "rise")}
    write_report([str(swept)], tmp_path, page=True)
    (model,) = PageText(tmp_path / "report.html").facts["models"]
    assert all((one["folder"], one["below"]) == (one["name"], False) for one in model["explainers"])


@pytest.mark.slow
def test_the_page_knows_of_which_images_there_is_a_figure(tmp_path: Path) -> None:
    run = write_run(tmp_path, "rise", facts={"deletion": FACTS["deletion"]}, images=4)
    (run / "figures").mkdir()
    for expected, drawn in (([], ()), ([1, 3], (1, 3)), (None, range(4))):
        for number in drawn:
            (run / "figures" / f"{names(4)[number]}.png").write_bytes(b"")
        (model,) = PageText(write_run_page(tmp_path)).facts["models"]
        assert [one["drawn"] for one in model["explainers"]] == [expected]


@pytest.mark.slow
def test_a_report_of_very_many_scores_is_made_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    facts = {f"score_{number}": MetricFact("lower", "made up", "faithfulness") for number in range(60)}
    for seed, method in enumerate(("random", "rise", "lime")):
        generator = np.random.default_rng(seed)
        values = {name: generator.random(6) for name in facts}
        write_run(tmp_path / "sweep" / method, method, values, images=6, facts=facts)
    write_report([str(tmp_path / "sweep")], tmp_path / "report", page=True)
    assert [str(warning.message) for warning in recwarn] == []


def test_runs_that_do_not_record_how_targets_were_chosen_have_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path, "rise", facts={"deletion": FACTS["deletion"]}, images=6)
    table = pd.read_csv(run / "predictions.csv", dtype=str)
    table.drop(columns="target_policy").to_csv(run / "predictions.csv", index=False)
    (model,) = PageText(write_run_page(tmp_path)).facts["models"]
    assert {image["policy"] for image in model["images"]} == {""}


def test_no_two_parts_of_a_page_have_one_name(swept: Path) -> None:
    html = (swept / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]+)"', html.split("<script>")[0])
    assert sorted(ids) == sorted(set(ids))
    assert set(re.findall(r'href="#([\w-]+)"', html)) <= set(ids)
    regions = re.findall(r'role="region" aria-label="([^"]+)"', html)
    landmarks = [name.lower() for name in [*regions, *re.findall(r"<h2[^>]*>(.*?)</h2>", html)]]
    assert sorted(landmarks) == sorted(set(landmarks))
