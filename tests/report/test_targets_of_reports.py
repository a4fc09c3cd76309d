"""Reports of runs with several targets of an image: counts and tests are of images, the page groups targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from page_text import PageText
from seewhy.core.errors import UserError
from seewhy.report.comparison import compare_runs, join_runs
from seewhy.report.html.gallery import list_methods
from seewhy.report.html.models import build_model_pairs
from seewhy.report.runs import find_runs
from seewhy.report.sheets import choose_images
from seewhy.report.write import write_run_page
from sweep_folder import FACTS, names, write_run

IMAGES = 4
FEW = {"deletion": FACTS["deletion"]}
POLICIES = ("predicted", "runner_up")


def write_targets(folder: Path, method: str, values: list[float], name: str = "a", predicted: str = "cat") -> Path:
    """A run of two targets of each image: the value of the second is 0.2 larger."""
    model = {"name": name, "weights": "hub", "weights_sha256": name * 8}
    explainer = {"name": method, "parameters": "", "target": ", ".join(POLICIES), "signed": True}
    write_run(folder, method, {"deletion": values}, images=IMAGES, facts=FEW, model=model, explainer=explainer)
    for table in ("metrics", "predictions"):
        path, parts = folder / f"{table}.csv", []
        whole = pd.read_csv(path, dtype={"target_probability": str, "probability": str}, keep_default_na=False)
        for number, policy in enumerate(POLICIES):
            part = whole.assign(image=whole["image"] + f"@{policy}", target_policy=policy, order=whole.index)
            if table == "metrics":
                part["value"] += 0.2 * number
            else:
                part["target"], part["predicted"] = ("cat", "dog")[number], predicted
                part["correct"] = "yes" if predicted == "cat" else "no"
            parts.append(part)
        joined = pd.concat(parts).sort_values(["order", "target_policy"]).drop(columns="order")
        joined.to_csv(path, index=False)
    return folder


VALUES = [0.1, 0.2, 0.3, 0.5]


def test_a_run_counts_images_and_the_page_groups_their_targets(tmp_path: Path) -> None:
    folder = write_targets(tmp_path / "0", "grad_cam", VALUES)
    (run,), _ = find_runs([str(tmp_path)])
    assert list(run.predictions.index[:3]) == ["image_0000@predicted", "image_0000@runner_up", "image_0001@predicted"]
    assert list(run.images.index) == names(IMAGES)
    comparison = compare_runs(join_runs([run])[0])
    assert comparison.joined.images == IMAGES
    (row,) = comparison.summary.to_dict("records")
    assert (row["n"], row["mean"]) == (IMAGES, pytest.approx(np.mean(VALUES) + 0.1))
    assert choose_images(run)[:2] == ["image_0000@predicted", "image_0000@runner_up"]
    page = PageText(write_run_page(folder))
    images = page.facts["models"][0]["images"]
    assert [(each["image"], each["policy"], each["target"]) for each in images[:2]] == [
        ("image_0000", "predicted", "cat"),
        ("image_0000", "runner_up", "dog"),
    ]
    scores = page.facts["models"][0]["scores"]["deletion"]
    assert [score for (score,) in scores[:2]] == [pytest.approx(0.1), pytest.approx(0.3)], "each target has its own"


def test_networks_are_compared_by_image(tmp_path: Path) -> None:
    write_targets(tmp_path / "0", "grad_cam", VALUES)
    write_targets(tmp_path / "1", "grad_cam", [value + 0.1 for value in VALUES], "b", "dog")
    runs, _ = find_runs([str(tmp_path)])
    comparisons = [compare_runs(joined) for joined in join_runs(runs)]
    methods = [
        list_methods(each, [run for run in runs if str(run.folder) in set(each.joined.explainers["folder"])])
        for each in comparisons
    ]
    (pair,) = build_model_pairs(comparisons, methods)
    assert dict(pair.counts)["Predictions that changed"] == "4 of 4"
    assert dict(pair.counts)["Became wrong"] == "4 of 4"
    (score,) = pair.scores
    assert score["n"] == IMAGES
    assert score["difference"] == pytest.approx(0.1)


def test_labels_that_networks_do_not_share_are_no_other_images(tmp_path: Path) -> None:
    folders = [
        write_targets(tmp_path / "0", "grad_cam", VALUES),
        write_targets(tmp_path / "1", "grad_cam", VALUES, "b"),
    ]
    for table in ("metrics", "predictions"):
        path = folders[1] / f"{table}.csv"
        path.write_text(path.read_text().replace("image_0001@runner_up", "image_0001@labels_bird"))
    runs, _ = find_runs([str(tmp_path)])
    assert [joined.images for joined in join_runs(runs)] == [IMAGES, IMAGES]
    for run in runs:
        run.record["model"] = runs[0].record["model"]
    with pytest.raises(UserError, match=r"image_0001@labels_bird was explained in .*1 alone"):
        join_runs([runs[0], runs[1]])
