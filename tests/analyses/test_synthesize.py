"""Whole runs of the command synthesize: what they leave behind and how they fail."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_fooled_image import fooled

from commands import CONFIGS, composed
from seewhy.analyses.synthesis.fooling_image import ProbabilityChange
from seewhy.analyses.synthesis.summary import build_fooling_table
from seewhy.cli import tasks
from seewhy.data.folder import SAMPLES
from seewhy.models.architectures import Own
from seewhy.models.build import build_classifier
from seewhy.models.cifar_networks import CifarCNN

Runner = Callable[..., Path]
FEW = ("synthesis=class_visualization", "synthesis.steps=6", "synthesis.classes=[frog,3]")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """Runs the command on the shipped tutorial network, in a folder of its own."""

    def go(*overrides: str, name: str = "run") -> Path:
        folder = tmp_path / name
        given = ["model=cifar_cnn", "trainer=cpu", "probe_batch_size=16", f"output={folder}", "hydra.mode=RUN"]
        tasks.execute(tasks.synthesize, composed("synthesize", [*given, *overrides]))
        return folder

    return go


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read(path: Path) -> torch.Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


def logged(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


@pytest.mark.slow
def test_fooling_images_leave_everything(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runner("synthesis.target=deer", "data.limit=3", "data.batch_size=2")
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "completed"
    assert (record["images"], record["images_skipped"], record["successes"]) == (3, 0, 3)
    assert record["synthesis"] == {
        **{"name": "fooling_image", "seed": 0, "target": "deer", "rate": 0.25, "max_steps": 100, "margin": 0.0}
    }
    table = rows(folder / "synthesis.csv")
    assert [row["image"] for row in table] == ["airplane_0003", "automobile_0006", "bird_0025"]
    network = build_classifier("cifar_cnn", Own(CifarCNN), "shipped")
    for row in table:
        original = read(SAMPLES / "cifar10" / f"{row['image']}.png") / 255
        saved = read(folder / "images" / f"{row['image']}.png") / 255
        assert int(network(saved[None]).argmax()) == 4, "the file itself is taken for the target"
        probabilities = network(torch.stack([original, saved])).softmax(1).detach()[:, 4].tolist()
        assert float(row["target_probability_before"]) == pytest.approx(probabilities[0], rel=1e-3)
        assert float(row["target_probability_after"]) == pytest.approx(probabilities[1], rel=1e-3)
        assert float(row["l2"]) == pytest.approx(float((saved - original).norm()), rel=1e-4)
        assert float(row["l2_unrounded"]) <= int(row["steps"]) * 0.25 * 1.00001
        assert (row["target"], row["predicted_after"], row["success"], row["outcome"]) == (
            "deer",
            "deer",
            "yes",
            "fooled",
        )
        assert (folder / "figures" / f"{row['image']}.png").is_file()
    assert (folder / "sheet.png").is_file()
    assert rows(folder / "skipped.csv") == []
    assert not list(folder.rglob("*.part"))
    events = logged(folder)
    assert {"sheet", "figures/airplane_0003"} <= set(events.Tags()["images"])
    assert [point.value for point in events.Scalars("per_image/steps")] == [float(row["steps"]) for row in table]
    printed = capsys.readouterr().out
    assert all(row["image"][:4] in printed for row in table)


def test_numbers_are_never_cut_in_a_narrow_terminal() -> None:
    names = "a very long name of an image", "a long name of a class"
    made = fooled(
        name=names[0],
        predicted=ProbabilityChange(names[1], 0.9, 1e-5),
        target=ProbabilityChange(names[1], 1e-5, 0.97),
        answer=names[1],
    )
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(build_fooling_table([made] * 2, 5))
    printed = console.export_text()
    for whole in ("1e-05 → 0.97", " 4 ", "0.50", "16.8", "PSNR/dB", "and 3 more"):
        assert whole in printed
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.slow
def test_class_visualizations_leave_everything(runner: Runner) -> None:
    folder = runner(*FEW)
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["classes"]) == ("completed", 2)
    assert record["passes"] == {"forward": 2 * (6 + 6), "backward": 2 * 6}
    table = rows(folder / "synthesis.csv")
    assert [(row["class"], row["step"]) for row in table] == [
        (name, str(step)) for name in ("frog", "cat") for step in range(1, 7)
    ]
    network = build_classifier("cifar_cnn", Own(CifarCNN), "shipped")
    for name, index in (("006_frog", 6), ("003_cat", 3)):
        image = read(folder / "images" / f"{name}.png") / 255
        final = next(row for row in table if row["index"] == str(index) and row["step"] == "6")
        assert float(final["score"]) == pytest.approx(float(network(image[None])[0, index].detach()), rel=1e-4)
        assert (folder / "figures" / f"{name}.png").is_file()
        with Image.open(folder / "animations" / f"{name}.webp") as moving:
            assert moving.n_frames == 6
    assert (folder / "sheet.png").is_file() and (folder / "scores.png").is_file()
    assert len(logged(folder).Scalars("score/006_frog")) == 6


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [("data.limit=2",), FEW, (*FEW, "synthesis.variant=cs231n")])
def test_same_seed_same_bytes(runner: Runner, overrides: tuple[str, ...]) -> None:
    first, again = (runner(*overrides, "logger=[]", name=name) for name in ("first", "again"))
    compared = [path for path in sorted(first.rglob("*.*")) if path.suffix in (".png", ".csv", ".webp")]
    assert len(compared) >= 7
    for path in compared:
        assert path.read_bytes() == (again / path.relative_to(first)).read_bytes(), path


@pytest.mark.slow
def test_an_unknown_true_class_and_a_bad_file_are_rows(runner: Runner, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(SAMPLES / "cifar10" / "cat_0000.png", images / "good.png")
    (images / "bad.png").touch()
    folder = runner("data=folder", f"data.root={images}", "synthesis.target=true", "logger=[]")
    assert {Path(row["path"]).name for row in rows(folder / "skipped.csv")} == {"good.png", "bad.png"}
    assert rows(folder / "synthesis.csv") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("synthesis.target=frgo",), "nearest: frog"),
        (("synthesis.target=10",), "must be from 0 to 9"),
        (("synthesis.rate=0",), "synthesis.rate=0 must be a number above 0"),
        ((*FEW, "synthesis.classes=[gorilla]"), "'gorilla'"),
        ((*FEW, "synthesis.classes=frog"), "must be a list"),
        ((*FEW, "synthesis.variant=deep"), "synthesis.variant=deep must be fourier or cs231n"),
    ],
)
def test_a_mistake_is_one_message(
    runner: Runner, overrides: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        runner(*overrides, "logger=[]")
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((CONFIGS / "synthesis").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_yaml_is_the_class_with_its_defaults(path: Path) -> None:
    cfg = composed("synthesize", [f"synthesis={path.stem}", "hydra.mode=RUN"])
    built = instantiate(cfg.synthesis, _convert_="object")
    assert built.name == path.stem
    assert built == type(built)()
    assert set(cfg.synthesis) - {"_target_"} == set(vars(built))
