"""Whole runs in one process: what they leave behind and how they fail."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from commands import Runner, composed, rows, width
from seewhy.cli import tasks
from seewhy.data.folder import SAMPLES


@pytest.mark.slow
def test_a_run_leaves_everything_that_the_contract_names(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runner("explainer=integrated_gradients", "explainer.n_steps=8", "data.limit=3", "data.batch_size=2")
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "completed"
    assert (record["images"], record["images_explained"], record["images_skipped"]) == (3, 3, 0)
    assert record["passes_per_image"] == {"forward": 10.0, "backward": 8.0}
    assert record["model"]["weights"] == "random (seed 0)"
    assert len(record["model"]["weights_sha256"]) == 64
    predictions = rows(folder / "predictions.csv")
    assert [row["image"] for row in predictions] == ["airplane_0003", "automobile_0006", "bird_0025"]
    assert [row["label"] for row in predictions] == ["airplane", "automobile", "bird"]
    assert all(row["target"] == row["predicted"] for row in predictions)
    metrics = rows(folder / "metrics.csv")
    assert {row["metric"] for row in metrics} == {
        *("n_steps", "floor", "largest", "completeness_gap", "completeness_gap_relative")
    }
    assert {row["image"] for row in metrics} == {row["image"] for row in predictions}
    for row in predictions:
        attribution = np.load(folder / "attributions" / f"{row['image']}.npy")
        assert (attribution.shape, attribution.dtype) == ((32, 32), np.float32)
        assert width(folder / "figures" / f"{row['image']}.png") > 400
    assert width(folder / "sheet.png") > 400
    assert list((folder / "tensorboard").glob("events*"))
    assert not list(folder.rglob("*.part"))
    printed = capsys.readouterr().out
    assert "3 images × 18 passes = 54 passes" in printed
    assert f"run folder: {folder}" in printed.replace("\n", "")


@pytest.mark.slow
def test_the_stored_map_is_the_explainers_map(runner: Runner) -> None:
    from seewhy.data.images import read_image
    from seewhy.data.loading import to_unit_range
    from seewhy.explainers.gradient import Saliency
    from seewhy.models.architectures import Own
    from seewhy.models.build import build_classifier
    from seewhy.models.cifar_networks import CifarCNN

    folder = runner("explainer=saliency", "data.limit=1", "callbacks=[attribution,tables]", "target=ship")
    image = to_unit_range(read_image(SAMPLES / "cifar10" / "airplane_0003.png"))[None]
    built = build_classifier("cifar_cnn", Own(CifarCNN), "random")
    expected = Saliency(probe_batch_size=16)(built, image, torch.tensor([8]))[0].numpy()
    np.testing.assert_array_equal(np.load(folder / "attributions" / "airplane_0003.npy"), expected)
    assert not (folder / "figures").exists()


@pytest.mark.slow
def test_same_seed_same_bytes_whatever_the_workers_and_the_order(runner: Runner, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    names = ["airplane_0003.png", "bird_0025.png", "cat_0000.png"]
    for new, old in zip("zyx", names, strict=True):
        shutil.copy(SAMPLES / "cifar10" / old, copies / f"{new}_{old}")
    listed = ",".join(str(SAMPLES / "cifar10" / name) for name in names)
    few = ["explainer=random", "callbacks=[attribution,tables,figures]", "data.batch_size=1"]
    first = runner("data=folder", f"data.root=[{listed}]", *few, name="first")
    again = runner("data=folder", f"data.root=[{listed}]", *few, "data.num_workers=2", name="again")
    turned = runner("data=folder", f"data.root={copies}", *few, name="turned")
    compared = [
        path.relative_to(first) for path in sorted(first.rglob("*.*")) if path.suffix in (".npy", ".png", ".csv")
    ]
    assert len(compared) == 3 + 3 + 1 + 3 + 3  # maps, figures, the sheet, its pictures, tables
    for path in compared:
        assert (first / path).read_bytes() == (again / path).read_bytes(), path
    for new, old in zip("zyx", names, strict=True):
        stem = old.removesuffix(".png")
        one, other = first / "attributions" / f"{stem}.npy", turned / "attributions" / f"{new}_{stem}.npy"
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_half_precision_changes_a_map_only_a_little(runner: Runner) -> None:
    few = ["explainer=integrated_gradients", "explainer.n_steps=8", "callbacks=[attribution,tables]", "data.limit=2"]
    full, half = runner(*few, name="full"), runner(*few, "trainer.precision=bf16-mixed", name="half")
    for path in sorted((full / "attributions").iterdir()):
        one, other = np.load(path), np.load(half / "attributions" / path.name)
        assert not np.array_equal(one, other)
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9


@pytest.mark.slow
def test_a_bad_image_is_a_row_and_not_the_end(runner: Runner, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(SAMPLES / "cifar10" / "cat_0000.png", images / "good.png")
    (images / "bad.jpg").write_text("this is not a picture")
    (images / "empty.png").touch()
    folder = runner("data=folder", f"data.root={images}", "explainer=saliency", "data.batch_size=1")
    assert {Path(row["path"]).name for row in rows(folder / "skipped.csv")} == {"bad.jpg", "empty.png"}
    assert [row["image"] for row in rows(folder / "predictions.csv")] == ["good"]
    assert json.loads((folder / "run.json").read_text())["images_skipped"] == 2


def test_a_run_that_read_nothing_fails(runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.png", "b.png"):
        (images / name).write_text("this is not a picture")
    with pytest.raises(SystemExit) as stop:
        runner("data=folder", f"data.root={images}", "explainer=saliency")
    assert stop.value.code == 2
    assert f"no image was read: 2 of 2 were left out (skipped.csv lists them), the first is {images}/a.png" in " ".join(
        capsys.readouterr().err.split()
    )
    assert len(rows(tmp_path / "run" / "skipped.csv")) == 2
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["images"], record["images_skipped"]) == ("failed", 0, 2)


def test_a_run_that_explained_nothing_fails_and_keeps_its_predictions(
    runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(SAMPLES / "cifar10" / "cat_0000.png", tmp_path / "one.png")
    given = ("data=folder", f"data.root={tmp_path / 'one.png'}", "explainer=saliency")
    with pytest.raises(SystemExit) as stop:
        runner(*given, "target=true")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "no image was explained" in error and "target=true" in error
    folder = tmp_path / "run"
    assert "target=true" in rows(folder / "skipped.csv")[0]["reason"]
    assert rows(folder / "predictions.csv")[0]["target"] == ""
    runner(*given, "target=true", "callbacks.attribution.limit=0", name="predictions alone")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("target=shipp", "nearest: ship"),
        ("model.cam_layer=conv9", "no layer 'conv9'"),
        ("model.std=[0,1,1]", "model.std"),
        ("data=folder", "data.root is not set"),
        ("callbacks.figures.colours=rainbow", "callbacks.figures.colours"),
        ("model.weights=nowhere.pth", "there is no such file"),
        ("probe_batch_size=0", "probe_batch_size=0 must be"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    runner: Runner, tmp_path: Path, override: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        runner("explainer=grad_cam", override)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err
    assert not list((tmp_path / "run").rglob("*"))


def test_ctrl_c_keeps_what_was_done(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seewhy.callbacks import attribution

    calls = []

    def stop_at_third(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    original = attribution.explain_batch
    monkeypatch.setattr(attribution, "explain_batch", stop_at_third)
    with pytest.raises(SystemExit) as stop:
        runner("explainer=saliency", "data.limit=5", "data.batch_size=1")
    assert stop.value.code == 130
    folder = tmp_path / "run"
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert len(rows(folder / "predictions.csv")) == 2
    assert (folder / "sheet.png").is_file()


@pytest.mark.slow
def test_training_saves_weights_that_explain_can_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seewhy.data import cifar10
    from seewhy.models.weights import read_weights

    generator = torch.Generator().manual_seed(0)

    def few(root: Path, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(0, 10, (600,), generator=generator)
        pictures = torch.randint(0, 256, (600, 3, 32, 32), generator=generator, dtype=torch.uint8)
        pictures[torch.arange(600), 0, labels] = 255
        return pictures, labels

    monkeypatch.setattr(cifar10, "read_part", few)
    folder = tmp_path / "training"
    given = ["trainer=cpu", "trainer.max_epochs=1", "data.validation=200", "data.limit=30", f"output={folder}"]
    given += ["callbacks.attribution.limit=2", "explainer=saliency", "probe_batch_size=16", "hydra.mode=RUN"]
    tasks.execute(tasks.train, composed("train", given))
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "completed"
    assert 0 <= record["logged"]["test/accuracy"] <= 1
    assert record["images_explained"] == 2
    state, facts = read_weights(folder / "weights.safetensors")
    assert facts is not None
    assert facts.classes[3] == "cat"
    checkpoint, carried = read_weights(folder / "checkpoints" / "best.ckpt")
    assert carried == facts
    assert all(torch.equal(checkpoint[key], state[key]) for key in state)
    assert (folder / "csv" / "metrics.csv").is_file()
