"""`train.py data=folder`: pictures of one's own, from a class tree to weights that explain.py takes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands import composed, rows
from seewhy.cli import tasks
from seewhy.models.weights import read_weights

QUICK = ["trainer=cpu", "probe_batch_size=16", "logger=[]", "explainer=saliency", "hydra.mode=RUN"]


def draw_pictures(root: Path, count: int = 12) -> Path:
    """Reddish and bluish pictures of different sizes."""
    random = np.random.default_rng(0)
    for channel, name in enumerate(("rose", "", "sky")):
        for number in range(count if name else 0):
            pixels = random.integers(0, 60, (30 + number, 40, 3), np.uint8)
            pixels[..., channel] += 150
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def train(folder: Path, *overrides: str) -> Path:
    tasks.execute(tasks.train, composed("train", [*QUICK, f"output={folder}", *overrides]))
    return folder


@pytest.mark.slow
def test_a_class_tree_is_trained_tested_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = draw_pictures(tmp_path / "pictures")
    (root / "sky" / "broken.png").write_text("no picture")
    (root / "sky" / "cut.png").write_bytes((root / "sky" / "1.png").read_bytes()[:200])
    chosen = [f"data.root={root}", "data=folder", "trainer.max_epochs=3", "data.training_batch_size=4"]
    folder = train(tmp_path / "run", *chosen, "optimization.lr=0.01", "callbacks.attribution.limit=2")
    printed = capsys.readouterr().out
    record = json.loads((folder / "run.json").read_text())
    parts = record["training_data"]
    assert (parts["classes"], parts["train"] + parts["val"] + parts["test"]) == (2, 26)
    assert f"on {parts['train']} images of 2 classes" in printed
    assert f"weights: {folder}/weights.safetensors" in printed
    unread = {Path(path).name for path in record["training_unread"]}
    unread |= {Path(row["path"]).name for row in rows(folder / "skipped.csv")}
    assert unread == {"broken.png", "cut.png"}
    predictions = rows(folder / "predictions.csv")
    assert {row["label"] for row in predictions} == {"rose", "sky"}
    assert all(row["correct"] == "yes" for row in predictions)
    facts = read_weights(folder / "weights.safetensors")[1]
    assert facts is not None
    assert facts.classes == ("rose", "sky")
    (line,) = [line for line in printed.splitlines() if line.startswith("explain with them: ")]
    words = [word for word in shlex.split(line.partition(": ")[2]) if "=" in word]
    again = tmp_path / "again"
    tasks.execute(tasks.explain, composed("explain", [*QUICK, f"output={again}", "page=false", *words]))
    key = "image predicted probability".split()
    first, second = ({row["image"]: row for row in rows(each / "predictions.csv")} for each in (folder, again))
    assert {name: [row[column] for column in key] for name, row in first.items()} == {
        name: [row[column] for column in key] for name, row in second.items()
    }


def test_a_table_of_labels_is_trained_on(tmp_path: Path) -> None:
    root = draw_pictures(tmp_path / "pictures", count=6)
    flat = tmp_path / "flat"
    flat.mkdir()
    lines = ["path,label"]
    for path in sorted(root.rglob("*.png")):
        path.rename(flat / f"{path.parent.name}{path.stem}.png")
        lines.append(f"{path.parent.name}{path.stem}.png,{path.parent.name}")
    (tmp_path / "truth.csv").write_text("\n".join(lines))
    chosen = [f"data.root={flat}", "data=folder", f"data.labels={tmp_path / 'truth.csv'}", "trainer.max_epochs=1"]
    folder = train(tmp_path / "run", *chosen, "callbacks=[checkpoint,tables,learning_rate]")
    facts = read_weights(folder / "weights.safetensors")[1]
    assert facts is not None
    assert facts.classes == ("rose", "sky")


@pytest.mark.slow
def test_several_labels_are_trained_on(tmp_path: Path) -> None:
    root = draw_pictures(tmp_path / "pictures")
    flat, lines = tmp_path / "flat", ["path,label"]
    flat.mkdir()
    for path in sorted(root.rglob("*.png")):
        name = f"{path.parent.name}{path.stem}.png"
        path.rename(flat / name)
        lines.append(f"{name},{'red' if path.parent.name == 'rose' else 'blue|cold'}")
    (flat / "labels.csv").write_text("\n".join(lines))
    chosen = [f"data.root={flat}", "data=folder", "model.score=sigmoid", "trainer.max_epochs=8", "optimization.lr=0.01"]
    folder = train(tmp_path / "run", *chosen, "data.training_batch_size=4", "callbacks=[checkpoint,attribution,tables]")
    facts = read_weights(folder / "weights.safetensors")[1]
    assert facts is not None
    assert (facts.classes, facts.score) == (("blue", "cold", "red"), "sigmoid")
    predictions = rows(folder / "predictions.csv")
    assert {row["label"] for row in predictions} == {"red", "blue, cold"}
    assert all(row["correct"] == "yes" for row in predictions)
    again = tmp_path / "again"
    words = ["model=cifar_cnn", f"model.weights={folder / 'weights.safetensors'}", "data=folder", f"data.root={flat}"]
    words += ["data.split=test", "page=false", "callbacks=[attribution,tables]"]
    tasks.execute(tasks.explain, composed("explain", [*QUICK, f"output={again}", *words]))
    assert sorted(row["correct"] for row in rows(again / "predictions.csv")) == ["yes"] * len(predictions)


def test_weights_of_other_classes_are_taken_up_to_their_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = draw_pictures(tmp_path / "pictures", count=6)
    chosen = [f"data.root={root}", "data=folder", "model.weights=shipped", "trainer.max_epochs=1"]
    rates = ["optimization.lr=1e-9", "optimization.lr_trained=1e-9", "callbacks=[checkpoint]"]
    folder = train(tmp_path / "run", *chosen, *rates)
    assert "new head " in capsys.readouterr().out
    state, facts = read_weights(folder / "weights.safetensors")
    from seewhy.models.build import SHIPPED

    shipped = read_weights(SHIPPED / "cifar_cnn.safetensors")[0]
    assert facts is not None and facts.classes == ("rose", "sky")
    changed = [name for name, value in shipped.items() if state[name].shape != value.shape]
    assert len(changed) == 2
    for name, value in shipped.items():
        if name not in changed and value.is_floating_point():
            torch.testing.assert_close(state[name], value.float(), rtol=0, atol=1e-4)


def test_samples_say_that_there_is_nothing_to_hold_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train(tmp_path / "run", "data=samples")
    assert stop.value.code == 2
    assert "is in the part val" in " ".join(capsys.readouterr().err.split())
