"""Whole runs on pictures of one, four and thirteen channels and on rectangles: what is explained, shown and refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from commands import composed, rows
from corruption_checks import scene
from seewhy.analyses.synthesis.class_visualization import ClassVisualization
from seewhy.api import explain, load_classifier
from seewhy.cli import tasks
from seewhy.core.errors import UserError
from seewhy.data.images import read_image
from shaped import images_of, shaped_cnn

SIZE = (48, 80)
NETWORK = (
    *("model=timm", "model.name=test_resnet", "model.weights=random", "model.classes=4", "model.size=[48,80]"),
    *("model.crop=1", "model.interpolation=bilinear"),
)


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[[int], Path]:
    """A folder of two pictures: grey or colours with transparency as PNG, more channels as .npy."""

    def save(channels: int) -> Path:
        folder = tmp_path / f"pictures{channels}"
        folder.mkdir()
        for seed in range(2):
            values = scene(60, 100, seed)[..., np.arange(channels) % 3]
            if channels > 4:
                np.save(folder / f"p{seed}.npy", values)
            else:
                Image.fromarray(values[..., 0] if channels == 1 else values).save(folder / f"p{seed}.png")
        return folder

    return save


def run(task: str, folder: Path, channels: int, *overrides: str) -> None:
    given = [*NETWORK, f"model.channels={channels}", "model.mean=0.5", "model.std=0.25", "trainer=cpu", "logger=[]"]
    cfg = composed(task, [*given, "probe_batch_size=8", f"output={folder}", "hydra.mode=RUN", *overrides])
    tasks.execute(getattr(tasks, task.replace("robustness", "explain")), cfg)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 4, 13])
def test_a_run_explains_and_shows_pictures_of_any_channels(
    channels: int, pictures: Callable[[int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, folder = pictures(channels), tmp_path / "run"
    chosen = {1: (), 4: (4, 2, 1), 13: (9,)}[channels]
    shown = [f"model.display=[{','.join(map(str, chosen))}]"] if chosen else []
    run("explain", folder, channels, "data=folder", f"data.root={root}", "explainer=input_x_gradient", *shown)
    assert [row["image"] for row in rows(folder / "predictions.csv")] == ["p0", "p1"]
    assert np.load(folder / "attributions" / "p0.npy").shape == SIZE
    record = json.loads((folder / "run.json").read_text())["model"]
    assert (record["size"], len(record["mean"]), tuple(record.get("display", ()))) == ([48, 80], channels, chosen)
    page = (folder / "report.html").read_text()
    words = re.search(r"48 x 80 pixels[^<]*, 4 classes", page)
    assert words and (f"{channels} channel" in words[0])
    assert (folder / "sheet.png").is_file() and (folder / "figures" / "p1.png").is_file()
    expected = resized(read_image(next(root.glob("p0.*")), channels=channels))
    red = expected[(chosen or (1,))[0] - 1]
    with Image.open(folder / "journal" / "images" / "p0.png") as kept:
        assert np.abs(np.asarray(kept)[..., 0].astype(int) - red.numpy()).max() <= 1
    assert f"48 x 80 px, {channels} channel" in capsys.readouterr().out


def resized(picture: torch.Tensor) -> torch.Tensor:
    """A picture of 60 x 100 pixels as the network sees it, in 8 bits."""
    return functional.resize(picture, list(SIZE), antialias=True)


@pytest.mark.slow
def test_what_is_cut_is_told_before_anything_is_explained(
    pictures: Callable[[int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, given = pictures(1), ("explainer=saliency", "callbacks=[attribution,terminal]", "data=folder")
    run("explain", tmp_path / "cut", 1, *given, f"data.root={root}", "model.size=48")
    assert "48 x 48 px: the centre crop leaves out 40 % of a picture, at most 40 %" in capsys.readouterr().out
    run("explain", tmp_path / "whole", 1, *given, f"data.root={root}")
    run("explain", tmp_path / "squashed", 1, *given, f"data.root={root}", "model.size=48", "model.fit=squash")
    assert "leaves out" not in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_cut_is_told_in_python_too(pictures: Callable[[int], Path], caplog: pytest.LogCaptureFixture) -> None:
    network, root = shaped_cnn(1, SIZE).network.float(), pictures(1)
    facts = {"classes": 4, "mean": [0.4], "std": [0.25], "overrides": ["trainer=cpu"]}
    explain(network, root, "saliency", size=SIZE, **facts)
    explain(network, root, "saliency", size=48, fit="squash", **facts)
    assert not caplog.messages
    explain(network, root, "saliency", size=48, **facts)
    assert "the centre crop leaves out 40 % of a picture" in caplog.text


@pytest.mark.slow
def test_a_robustness_run_on_four_channels(pictures: Callable[[int], Path], tmp_path: Path) -> None:
    root, folder = pictures(4), tmp_path / "run"
    few = ("explainer=input_x_gradient", "corruption=[rotation,fgsm]", "page=false", "callbacks.robustness.workers=0")
    run("robustness", folder, 4, "data=folder", f"data.root={root}", "model.display=[4,2,1]", *few)
    assert len(rows(folder / "robustness.csv")) == 2 * (1 + 5 + 5)
    with Image.open(folder / "robustness" / "level_1.png") as sheet:
        assert sheet.height < 2 * (80 + 60) + 120, "rows are as high as their pictures"


def test_a_corruption_for_the_eye_is_refused(
    pictures: Callable[[int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run("robustness", tmp_path / "run", 4, "data=folder", f"data.root={pictures(4)}", "corruption=[jpeg]")
    assert stop.value.code == 2
    assert "corruption=jpeg is not defined for pictures of 4 channels" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("model.channels=2",), "set model.mean too"),
        (("model.mean=[0.1,0.2]", "model.std=[0.1]"), "model.std=[0.1] needs one number for each of 2 channels"),
        (("model.size=[48,80,3]",), "model.size=[48,80,3] must be "),
        (("model.display=[1,2,4]",), "model.display=[1, 2, 4] must name one or three channels"),
        (("model.fit=stretch",), "model.fit=stretch must be crop, squash"),
        (("model.channels=0", "model.mean=0.5", "model.std=0.5"), "model.channels=0 must be a whole number from 1"),
    ],
)
def test_impossible_images_are_refused(
    overrides: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = composed("explain", [*NETWORK, f"output={tmp_path}", "trainer=cpu", "hydra.mode=RUN", *overrides])
    with pytest.raises(SystemExit) as stop:
        tasks.execute(tasks.explain, cfg)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_of_ones_own_says_its_images_in_python() -> None:
    network, images = shaped_cnn(4, SIZE).network.float(), images_of(4, SIZE).float()
    facts = {"classes": 4, "size": SIZE, "mean": [0.4] * 4, "std": [0.25] * 4, "display": (4, 2, 1)}
    explanations = explain(network, images, "input_x_gradient", overrides=["trainer=cpu"], **facts)
    assert explanations[0].attribution.shape == SIZE
    assert torch.equal(explanations[0].picture, explanations[0].image[[3, 1, 0]])
    assert explanations[0].figure().mode == explanations.figure().mode == "RGB"
    built = load_classifier(network, classes=4, size=SIZE, channels=4, mean=0.4, std=0.25, fit="squash")
    assert (built.facts.mean, built.facts.fit) == ((0.4,) * 4, "squash")
    with pytest.raises(UserError, match=r"model.mean=\[0.4, 0.4\] needs one number for each of 4 channels"):
        load_classifier(network, classes=4, size=SIZE, channels=4, mean=[0.4] * 2, std=0.25)


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_a_fooling_image_reads_back_as_it_was_saved(
    channels: int, pictures: Callable[[int], Path], tmp_path: Path
) -> None:
    folder, few = tmp_path / "run", ("synthesis=fooling_image", "synthesis.target=2", "synthesis.max_steps=30")
    run("synthesize", folder, channels, "data=folder", f"data.root={pictures(channels)}", *few)
    (saved,) = (folder / "images").glob("p0.*")
    read = read_image(saved, channels=channels)
    assert read.shape == (channels, *SIZE)
    row = rows(folder / "synthesis.csv")[0]
    original = resized(read_image(next((tmp_path / f"pictures{channels}").glob("p0.*")), channels=channels))
    change = float((read.double() - original.double()).norm() / 255)
    assert change == pytest.approx(float(row["l2"]), rel=1e-4)
    assert (folder / "figures" / "p0.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["fourier", "cs231n"])
@pytest.mark.parametrize("channels", [1, 4, 13])
def test_a_class_is_visualized_in_any_channels(channels: int, variant: str) -> None:
    classifier = shaped_cnn(channels, (24, 40)).float()
    (result,) = ClassVisualization(variant=variant, steps=12, jitter=0, blur=0.0, l2=0.0).visualize(classifier, [1])
    assert result.frames[-1].pixels.shape == (channels, 24, 40)
    assert result.frames[-1].score > result.frames[0].score
    assert len({tuple(channel.flatten().tolist()) for channel in result.frames[-1].pixels}) == channels
