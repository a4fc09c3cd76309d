"""results.csv and the sheets of a sweep."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands import composed, rows, width
from figure_checks import assert_legible
from seewhy.cli import tasks
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.types import Explanation, Prediction, Target
from seewhy.plots.canvas import Drawing
from seewhy.plots.grid import draw_grid, draw_matrix
from seewhy.report import sheets
from seewhy.report.results import COLUMNS, write_results
from seewhy.report.runs import find_runs, read_record
from seewhy.report.sheets import choose_images
from seewhy.report.write import write_run_page
from sweep_folder import edit_record, write_run, write_sweep


def read_records(folder: Path) -> list[tuple[Path, dict[str, object]]]:
    return [(path.parent, read_record(path)) for path in sorted(folder.glob("*/run.json"))]


def test_every_value_of_every_run_is_a_row_with_its_origin(tmp_path: Path) -> None:
    write_sweep(tmp_path, ("saliency", "grad_cam"), images=3)
    changed = {"name": "occlusion", "parameters": "window=8", "target": "runner_up"}
    other = {"name": "mine", "weights": "file: a.pth", "weights_sha256": "b" * 64}
    write_run(tmp_path / "2_mine", "occlusion", images=2, seed=7, model=other, explainer=changed)
    path = write_results(RunFolder(tmp_path), read_records(tmp_path))
    assert path == tmp_path / "results.csv"
    written = rows(path)
    assert tuple(written[0]) == COLUMNS
    expected = []
    for folder, record in read_records(tmp_path):
        for row in rows(folder / "metrics.csv"):
            model, explainer = record["model"], record["explainer"]
            origin = (folder.name, model["name"], model["weights"], str(record["seed"]))  # type: ignore[index]
            method = (explainer["name"], explainer["parameters"], "cat", explainer["target"])  # type: ignore[index]
            expected.append((*origin, *method, row["image"], row["metric"], row["value"]))
    assert [tuple(row.values()) for row in written] == expected
    assert written[-1]["parameters"] == "window=8"


def test_the_target_is_that_of_the_image(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "0", "saliency", images=3)
    predictions = rows(folder / "predictions.csv")
    for row, target in zip(predictions, ("cat", "dog", "eel"), strict=True):
        row["target"] = target
    unexplained = {**predictions[0], "image": "left_out", "target": ""}
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(predictions[0]))
        writer.writeheader()
        writer.writerows([unexplained, *predictions])
    path = write_results(RunFolder(tmp_path), read_records(tmp_path))
    assert path is not None
    assert {row["image"]: row["target"] for row in rows(path)} == {
        "image_0000": "cat",
        "image_0001": "dog",
        "image_0002": "eel",
    }
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(predictions[0]))
        writer.writeheader()
        writer.writerows(predictions[1:])
    with pytest.raises(UserError, match="lacks 'image_0000'"):
        write_results(RunFolder(tmp_path), read_records(tmp_path))


def test_runs_without_values_are_left_out(tmp_path: Path) -> None:
    write_sweep(tmp_path, ("saliency", "grad_cam"), images=2)
    edit_record(tmp_path / "0_efficientnet_lite0_saliency", status="failed", reason="no")
    path = write_results(RunFolder(tmp_path), read_records(tmp_path))
    assert path is not None
    assert {row["explainer"] for row in rows(path)} == {"grad_cam"}
    edit_record(tmp_path / "1_efficientnet_lite0_grad_cam", status="interrupted")
    assert write_results(RunFolder(tmp_path / "none"), read_records(tmp_path)) is None
    assert not (tmp_path / "none").exists()


def test_images_of_the_sheets_take_turns_between_classes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "0", "saliency", images=9)
    text = (folder / "predictions.csv").read_text().splitlines()
    labelled = [
        line.replace("photo.png,cat", f"photo.png,{'cat' if n < 5 else 'dog'}") for n, line in enumerate(text[1:])
    ]
    (folder / "predictions.csv").write_text("\n".join([text[0], *labelled]))
    (run,), _ = find_runs([str(tmp_path)])
    assert choose_images(run) == [f"image_{n:04d}" for n in (0, 5, 1, 6, 2, 7)]


@pytest.mark.slow
def test_a_sweep_of_models_and_methods_leaves_its_sheets(tmp_path: Path) -> None:
    few = ["trainer=cpu", "probe_batch_size=16", "logger=[]", "hydra.mode=RUN", "data.limit=4"]
    few += ["callbacks=[attribution,previews,tables]", "page=false", "model.weights=random"]
    for number, (model, explainer) in enumerate(
        [("cifar_cnn", "saliency"), ("cifar_cnn", "edges"), ("vgg16_cifar", "saliency")]
    ):
        chosen = [f"model={model}", f"explainer={explainer}", f"output={tmp_path / f'{number}'}"]
        tasks.execute(tasks.explain, composed("explain", [*few, *chosen]))
    write_run_page(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["methods_cifar_cnn.png", "models_saliency.png"]
    assert width(tmp_path / "methods_cifar_cnn.png") == width(tmp_path / "models_saliency.png")
    with Image.open(tmp_path / "models_saliency.png") as picture:
        page = np.asarray(picture.convert("RGB"))
    assert page.shape[1] == 2 * 20 + 3 * (160 + 18) - 18
    assert (page[:, :, 0].astype(int) - page[:, :, 2]).max() > 100, "maps are painted over grey images"
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    write_run_page(tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}


@pytest.mark.slow
def test_a_sheet_holds_whole_images_of_different_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, explainer in enumerate(("saliency", "edges")):
        few = ["trainer=cpu", "probe_batch_size=16", "logger=[]", "hydra.mode=RUN", "data.limit=6", "page=false"]
        few += ["callbacks=[attribution,previews,tables]", "model=cifar_cnn", "model.weights=random"]
        few += [
            "target=[predicted,predicted - runner_up]",
            f"explainer={explainer}",
            f"output={tmp_path / f'{number}'}",
        ]
        tasks.execute(tasks.explain, composed("explain", few))
    drawn = []
    monkeypatch.setattr(
        sheets, "draw_matrix", lambda rows, *rest: drawn.append((rows, *rest)) or draw_matrix(rows, *rest)
    )
    write_run_page(tmp_path)
    ((rows, _, title),) = drawn
    explained = [row[0] for row in rows]
    assert [each.suffix.split("_-")[0] for each in explained] == ["predicted", "predicted"] * 3
    assert len({each.image_name for each in explained}) == 3
    assert len({each.prediction.label for each in explained}) == 3, "another class in each image"
    assert title.endswith("3 of 6 images")


# The drawing


def explain_cell(target: str, classifier: str = "net", correct: bool | None = True, peak: int = 0) -> Explanation:
    attribution = torch.zeros(8, 8)
    attribution.view(-1)[peak] = 1
    prediction = Prediction(0, target, 0.75, ((target, 0.75),), "cat", correct)
    chosen = Target(0, target, 0.75, "predicted")
    image = torch.full((3, 8, 8), 0.5)
    return Explanation("img", "p", image, prediction, chosen, attribution, "saliency", "", False, classifier)


def test_what_is_explained_stands_once_in_a_row_that_shares_it() -> None:
    drawing = draw_matrix([[explain_cell("cat"), explain_cell("cat", peak=9)]], ["one", "two"], "title")
    words = [item.text for item in drawing.words]
    assert words.count("✓ cat 0.75") == 1
    assert [text for text in words if text in ("title", "one", "two", "img")] == ["title", "one", "two", "img"]


def test_what_each_network_predicts_stands_above_its_map() -> None:
    cells = [explain_cell("cat", "a"), None, explain_cell("dog", "b", correct=False)]
    words = [item.text for item in draw_matrix([cells], ["a", "b", "c"], "title").words]
    assert words.index("✓ cat 0.75") < words.index("not explained") < words.index("✗ dog 0.75")
    assert "true: cat" in words


def test_a_long_contrast_stands_above_its_map_in_full() -> None:
    contrast = "Greater Swiss Mountain dog - 0.5*water spaniel, Irish"
    cells = [
        replace(explain_cell(name), target=Target(-1, name, math.nan, "a - b")) for name in (contrast, "cat - dog")
    ]
    for row in (cells, cells[:1] * 2):
        drawing = draw_matrix([row], ["one", "two"], "title")
        assert contrast in " ".join(word.text for word in drawing.words)
        assert_legible(drawing)


@pytest.mark.parametrize("draw", [lambda cell: draw_matrix([[cell]], ["one"], "title"), lambda cell: draw_grid([cell])])
def test_the_map_is_painted_over_the_grey_image_where_it_is(draw: Callable[[Explanation], Drawing]) -> None:
    first, last = (draw(explain_cell("cat", peak=peak)).paint().astype(int) for peak in (0, 63))
    corners = np.argwhere((first != last).any(2))[[0, -1]]
    coloured = [int(np.ptp(page[row, column])) > 40 for page in (first, last) for row, column in corners]
    assert coloured == [True, False, False, True]


def test_each_network_has_the_image_that_it_saw() -> None:
    wide = replace(explain_cell("cat", "b"), image=torch.full((3, 8, 8), 0.25))
    same = draw_matrix([[explain_cell("cat", "a"), explain_cell("cat", "b", peak=9)]], ["a", "b"], "title")
    drawing = draw_matrix([[explain_cell("cat", "a"), wide]], ["a", "b"], "title")
    assert not any("image of" in word.text for word in same.words)
    (heading,) = (word for word in drawing.words if word.text == "image of b")
    page = drawing.paint()
    left, right = (int(page[-80, x, 0]) for x in (30, int(heading.x) + 10))
    assert (left, right) == (128, 64)


def test_a_sheet_says_that_maps_are_averaged_only_where_one_is() -> None:
    def draw(attribution: torch.Tensor) -> str:
        cell = replace(explain_cell("cat"), image=torch.full((3, 96, 96), 0.5), attribution=attribution)
        return " ".join(w.text for page in (draw_matrix([[cell]], ["one"], "t"), draw_grid([cell])) for w in page.words)

    speckle = torch.rand(96, 96, generator=torch.Generator().manual_seed(0))
    assert draw(speckle).count("averaged over blocks") == 2
    assert draw(torch.kron(torch.eye(2), torch.ones(48, 48))).count("averaged over blocks") == 0


def test_an_empty_matrix_is_refused() -> None:
    for cells, columns in (([], ["a"]), ([[None]], ["a"]), ([[explain_cell("cat")]], [])):
        with pytest.raises(UserError, match="needs an explanation in each row"):
            draw_matrix(cells, columns, "title")
