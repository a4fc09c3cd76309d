"""Two networks side by side on the page: by value, on hand-made runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from seewhy.plots.heatmaps import encode_preview
from seewhy.report.comparison import compare_runs, join_runs
from seewhy.report.html.gallery import list_methods
from seewhy.report.html.models import ModelPair, build_model_pairs
from seewhy.report.runs import find_runs
from seewhy.report.write import write_run_page
from sweep_folder import FACTS, names, write_run

IMAGES = 8
FEW = {"deletion": FACTS["deletion"]}
MAP = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
VALUES = {"a": [0.1, 0.2, 0.3, 0.4] * 2, "b": [0.2, 0.3, 0.5, 0.4, 0.2, 0.3, 0.4, 0.5]}
FOUR = ["cat"] * 4


def write_model(
    folder: Path, name: str, predicted: list[str], maps: list[np.ndarray], method: str = "grad_cam", label: str = "cat"
) -> None:
    model = {"name": name, "weights": "hub", "weights_sha256": name * 8}
    explainer = {"name": method, "parameters": "", "target": "predicted", "signed": True}
    options = {"images": IMAGES, "facts": FEW, "model": model, "explainer": explainer}
    write_run(folder, method, {"deletion": VALUES[name[0]]}, **options)  # type: ignore[arg-type]
    table = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False)
    table["label"], table["predicted"], table["target"] = label, predicted, predicted
    table["correct"] = ["yes" if each == label else "no" for each in predicted]
    table["probability"] = table["target_probability"] = "0.900000" if name[0] == "a" else "0.700000"
    table.to_csv(folder / "predictions.csv", index=False)
    for kind in ("attributions", "images"):
        (folder / kind).mkdir()
    for image, attribution in zip(names(IMAGES), maps, strict=True):
        np.save(folder / "attributions" / f"{image}.npy", attribution)
        (folder / "images" / f"{image}.webp").write_bytes(encode_preview(torch.rand(3, 16, 16)))


def build_pairs(folder: Path) -> list[ModelPair]:
    runs, _ = find_runs([str(folder)])
    comparisons = [compare_runs(joined) for joined in join_runs(runs)]
    methods = [
        list_methods(each, [run for run in runs if str(run.folder) in set(each.joined.explainers["folder"])])
        for each in comparisons
    ]
    return build_model_pairs(comparisons, methods)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    write_model(tmp_path / "0", "a", ["cat", "cat", "dog", "dog", *FOUR], [MAP] * IMAGES)
    large = np.kron(MAP, np.ones((2, 2), np.float32))  # averaged back it is the same map
    maps = [MAP, -MAP, large, np.zeros_like(MAP), *[MAP] * 4]
    write_model(tmp_path / "1", "b", ["cat", "dog", "cat", "dog", *FOUR], maps)
    return tmp_path


def test_what_changed_is_counted(sweep: Path) -> None:
    (pair,) = build_pairs(sweep)
    assert (pair.first, pair.second, pair.total) == ("a", "b", IMAGES)
    assert dict(pair.counts) == {
        "Predictions that changed": "2 of 8",
        "Became right": "1 of 8",
        "Became wrong": "1 of 8",
        "Probability of the target, where it is the same": "-0.200 on 6 images",
    }


def test_maps_are_correlated_image_by_image(sweep: Path) -> None:
    (pair,) = build_pairs(sweep)
    found = {row["name"]: row["correlation"] for row in pair.images}
    assert found["image_0000"] == pytest.approx(1)
    assert found["image_0001"] == pytest.approx(-1)
    assert found["image_0002"] == pytest.approx(1), "the larger map is averaged to the smaller"
    assert np.isnan(found["image_0003"]), "a map of zeros has no order"
    assert pair.methods == [{"name": "grad_cam", "control": False, "correlation": pytest.approx(5 / 7), "n": 7}]


def test_changed_predictions_come_first_then_maps_that_differ(sweep: Path) -> None:
    (pair,) = build_pairs(sweep)
    found = [row["name"] for row in pair.images]
    assert found[:2] == ["image_0001", "image_0002"]
    assert found[-1] == "image_0003", "what has no correlation comes last"
    assert [row["changed"] for row in pair.images] == [True, True] + [False] * 6
    assert [[each["predicted"] for each in row["both"]] for row in pair.images][:2] == [["cat", "dog"], ["dog", "cat"]]


def test_scores_are_means_on_the_same_images_with_the_test_of_their_difference(sweep: Path) -> None:
    (pair,) = build_pairs(sweep)
    (row,) = pair.scores
    assert (row["method"], row["metric"], row["n"]) == ("grad_cam", "deletion", 8)
    assert row["first"] == pytest.approx(0.25)
    assert row["second"] == pytest.approx(0.35)
    assert row["difference"] == pytest.approx(0.1)
    assert row["p"] == pytest.approx(2 / 2**7), "of the signs of seven differences only all alike are as far off"


def test_methods_of_one_network_alone_are_left_out(sweep: Path) -> None:
    write_model(sweep / "2", "a", ["cat", "cat", "dog", "dog", *FOUR], [MAP] * IMAGES, "saliency")
    (pair,) = build_pairs(sweep)
    assert [method["name"] for method in pair.methods] == ["grad_cam"]


def test_networks_without_a_shared_method_are_no_pair(tmp_path: Path) -> None:
    write_model(tmp_path / "0", "a", ["cat"] * IMAGES, [MAP] * IMAGES)
    write_model(tmp_path / "1", "b", ["cat"] * IMAGES, [MAP] * IMAGES, "saliency")
    assert build_pairs(tmp_path) == []


@pytest.mark.slow
def test_the_page_has_the_section_where_there_are_two_models(sweep: Path) -> None:
    hostile = "<script>alert(1)</script>"
    write_model(sweep / "2", "b2", [hostile] * IMAGES, [MAP] * IMAGES)
    page = write_run_page(sweep)
    text = page.read_text()
    assert 'id="models"' in text
    assert "a → b" in text and "a → b2" in text
    assert hostile not in text and "&lt;script&gt;" in text
    for folder in ("1", "2"):
        shutil.rmtree(sweep / folder)
    assert 'id="models"' not in write_run_page(sweep).read_text()


def test_predictions_of_networks_with_other_classes_are_not_compared(sweep: Path) -> None:
    for run, count in (("0", 10), ("1", 1000)):
        path = sweep / run / "run.json"
        record = json.loads(path.read_text())
        record["model"]["classes"] = count
        path.write_text(json.dumps(record))
    (pair,) = build_pairs(sweep)
    assert dict(pair.counts)["Predictions that changed"] == "not compared: 10 and 1000 classes"
    assert not any(row["changed"] for row in pair.images)


@pytest.mark.slow
def test_the_correlation_stands_under_its_own_heading(sweep: Path) -> None:
    html = write_run_page(sweep).read_text()
    table = html[html.index('id="models-title"') :].partition("</table>")[0]
    assert "correlation of the maps</th>" in table
    assert "difference" not in table


def test_a_class_called_na_is_a_class(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "saliency", "saliency", images=3)
    table = folder / "predictions.csv"
    table.write_text(table.read_text().replace("cat", "NA"))
    ((run,), _) = find_runs([str(folder)])
    assert run.predictions[["label", "predicted", "target"]].stack().tolist() == ["NA"] * 9
