"""A folder of hostile images in one run: each is used and right, or skipped with the reason, and nothing else breaks."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from commands import composed
from corpus.case import Case, saved
from corpus.write import CASES, write_corpus
from seewhy.cli import tasks
from seewhy.core.cells import restore_cell
from seewhy.core.errors import UnreadableImage
from seewhy.data.dataset import escape_path
from seewhy.data.images import read_image

USED = [case for case in CASES if case.skipped is None and not case.left_out]
SKIPPED = [case for case in CASES if case.skipped is not None]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def below(corpus: Path, case: Case) -> Path:
    return corpus / os.fsdecode(case.name)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    folder = tmp_path_factory.mktemp("corpus") / "images"
    return folder, write_corpus(folder)


@pytest.fixture(scope="module")
def finished(corpus: tuple[Path, list[Case]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[Path]]:
    """(run folder, everything in the folder where the run was started and above the images)."""
    base = tmp_path_factory.mktemp("place")
    before = set(corpus[0].parent.rglob("*"))
    given = ["model=cifar_cnn", "model.weights=random", "trainer=cpu", "probe_batch_size=16", f"output={base / 'run'}"]
    given += ["data=folder", f"data.root={corpus[0]}", "explainer=saliency", "hydra.mode=RUN", "data.batch_size=7"]
    given += ["callbacks=[attribution,tables,terminal]", "logger=[]"]
    here = Path.cwd()
    os.chdir(base)
    try:
        tasks.execute(tasks.explain, composed("explain", given))
    finally:
        os.chdir(here)
    return base / "run", set(corpus[0].parent.rglob("*")) ^ before | set(base.iterdir())


def test_there_are_enough_cases_and_this_file_system_holds_them(corpus: tuple[Path, list[Case]]) -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 100
    assert len(corpus[1]) > 100


@pytest.mark.parametrize("case", USED, ids=lambda case: case.title)
def test_a_usable_image_has_the_right_pixels(case: Case, corpus: tuple[Path, list[Case]]) -> None:
    if case not in corpus[1]:
        pytest.skip("this file system has no such names")
    assert case.pixels is not None
    picture = read_image(below(corpus[0], case)).permute(1, 2, 0).numpy()
    if case.pixels.shape != (1, 1, 3):
        assert picture.shape == case.pixels.shape
    assert np.abs(picture.astype(np.int16) - case.pixels.astype(np.int16)).max() <= case.tolerance


@pytest.mark.parametrize("case", SKIPPED, ids=lambda case: case.title)
def test_a_damaged_image_says_what_is_wrong(case: Case, corpus: tuple[Path, list[Case]]) -> None:
    if case not in corpus[1]:
        pytest.skip("this file system has no such files")
    with pytest.raises(UnreadableImage, match=case.skipped) as caught:
        read_image(below(corpus[0], case))
    assert str(corpus[0]) not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_run_uses_what_it_can_and_lists_the_rest(
    corpus: tuple[Path, list[Case]], finished: tuple[Path, set[Path]]
) -> None:
    folder, cases = finished[0], corpus[1]
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "completed"
    skipped = {row["path"]: row["reason"] for row in rows(folder / "skipped.csv")}
    predicted = {row["path"]: row for row in rows(folder / "predictions.csv")}
    beside = {escape_path(corpus[0] / "target_of_link.png"), escape_path(corpus[0] / "a_folder.png" / "inside.png")}
    for case in cases:
        path = escape_path(below(corpus[0], case))
        assert (path in skipped, path in predicted) == (case.skipped is not None, case in USED), case.title
        if case.skipped is not None:
            assert re.search(case.skipped, skipped[path]), case.title
    assert len(skipped) == sum(case.skipped is not None for case in cases) == record["images_skipped"]
    assert len(predicted) == sum(case in USED for case in cases) + len(beside & set(predicted)) == record["images"]


def test_every_map_has_a_name_of_its_own_in_the_run_folder(
    corpus: tuple[Path, list[Case]], finished: tuple[Path, set[Path]]
) -> None:
    folder, outside = finished
    names = [restore_cell(row["image"]) for row in rows(folder / "predictions.csv")]
    assert len({name.casefold() for name in names}) == len(names)
    assert {path.stem for path in (folder / "attributions").iterdir()} == set(names)
    assert all(path.parent == folder / "attributions" for path in (folder / "attributions").rglob("*"))
    assert outside == {folder}, "something was written beside the run folder"


def test_no_control_character_reaches_a_table(finished: tuple[Path, set[Path]]) -> None:
    for name in ("predictions.csv", "skipped.csv", "metrics.csv"):
        text = (finished[0] / name).read_bytes().decode()
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text), name


def test_the_eight_rotations_are_the_same_image_for_the_network(finished: tuple[Path, set[Path]]) -> None:
    turned = [row for row in rows(finished[0] / "predictions.csv") if row["image"].startswith("exif_")]
    assert len(turned) == 8
    assert len({row["predicted"] for row in turned}) == 1
    chances = [float(row["probability"]) for row in turned]
    assert max(chances) - min(chances) < 1e-3


@pytest.mark.slow
def test_figures_and_tensorboard_bear_hostile_names(tmp_path: Path) -> None:
    names = (
        "$(touch canary).png",
        "<script>alert(1)<!--.png",
        "new\nline.png",
        "{0}$x^{.png",
        "[bold red]markup[/].png",
    )
    for name in names:
        path = tmp_path / "images" / "$\\frac{class}$<b>" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved())
    folder = tmp_path / "run"
    given = ["model=cifar_cnn", "model.weights=random", "trainer=cpu", "probe_batch_size=16", f"output={folder}"]
    given += ["data=folder", f"data.root={tmp_path / 'images'}", "explainer=saliency", "hydra.mode=RUN"]
    tasks.execute(tasks.explain, composed("explain", given))
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert figures == {row["image"] for row in rows(folder / "predictions.csv")}
    assert len(figures) == len(names)
    assert (folder / "sheet.png").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"images", "run"}
