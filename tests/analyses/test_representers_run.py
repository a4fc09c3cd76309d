"""A whole run with the callback `representers`."""

import json
import math
from pathlib import Path

import pytest
import torch

from commands import composed, rows, width
from seewhy.cli import tasks
from seewhy.core.facts import CIFAR10_CLASSES
from seewhy.data import cifar10


def few(root: Path, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(int(train))
    labels = torch.arange(120) % 10
    pictures = torch.randint(0, 100, (120, 3, 32, 32), generator=generator, dtype=torch.uint8)
    pictures[torch.arange(120), :, labels] = 255
    return pictures, labels


def count_wrong(table: list[dict[str, str]], order: str) -> int:
    """Of the ten first training images in an order those whose label is not the planted one."""
    _, labels = few(Path(), True)
    first = sorted(table, key=lambda row: -float(row[order]))[:10]
    own = {row["training_image"]: labels[int(row["training_image"].split("_")[-1])] for row in first}
    return sum(CIFAR10_CLASSES[own[row["training_image"]]] != row["class"] for row in first)


@pytest.mark.slow
def test_a_run_leaves_points_importance_and_consistency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "read_part", few)
    given = ["model=cifar_cnn", "model.weights=random", "data=cifar10", "data.validation=20", "trainer=cpu"]
    given += ["explainer=saliency", "callbacks=representers", "callbacks.attribution.limit=1", "probe_batch_size=64"]
    given += ["callbacks.representers.limit=30", "callbacks.representers.pictures=2", "callbacks.representers.l2=1e-4"]
    given += ["data.label_noise=0.1", f"output={tmp_path}", "hydra.mode=RUN"]
    tasks.execute(tasks.explain, composed("explain", given))
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "completed"
    facts = record["representers"]
    assert (facts["training_images"], facts["test_images"]) == (100, 30)
    assert facts["gradient_norm"] <= facts["gradient_limit"]
    assert facts["identity_error"] < 1e-6
    assert min(facts["pearson_training"], facts["pearson_test"]) >= 0.99
    points = rows(tmp_path / "representers.csv")
    assert len(points) == 30 * 2 * 5
    assert {row["rank"] for row in points} == set("12345")
    assert all((float(row["value"]) > 0) == (row["sign"] == "excitatory") for row in points)
    table = rows(tmp_path / "importance.csv")
    for row in table:
        if row["predicted"] == row["class"]:
            assert float(row["loss"]) == pytest.approx(-math.log(float(row["probability"])), abs=1e-3)
    assert facts["wrong_labels"] == 10
    for order in ("importance", "loss"):
        assert facts[f"wrong_labels_by_{order}"] == count_wrong(table, order)
    importance = [float(row["importance"]) for row in table]
    assert len(importance) == 100
    assert importance == sorted(importance, reverse=True)
    shares = [float(row["input"]) for row in rows(tmp_path / "consistency.csv")]
    assert sum(shares) / 30 == pytest.approx(facts["consistency_input"])
    assert facts["consistency_input"] > 0.8, "the planted rows make nearest pictures of one class"
    drawn = sorted(path.name for path in (tmp_path / "figures" / "representers").iterdir())
    names = ["consistency.png", "importance.png", "points_cifar10_test_00000.png", "points_cifar10_test_00001.png"]
    assert drawn == names
    assert all(width(tmp_path / "figures" / "representers" / name) > 800 for name in drawn)
    assert not list(tmp_path.rglob("*.part"))


def test_data_without_a_training_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["model=cifar_cnn", "model.weights=random", "trainer=cpu", "callbacks=representers", f"output={tmp_path}"]
    with pytest.raises(SystemExit):
        tasks.execute(tasks.explain, composed("explain", [*given, "hydra.mode=RUN"]))
    assert "callbacks=representers needs a training set, and data=samples has none" in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_of_grey_images_has_points_of_grey_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "read_part", few)
    given = ["model=timm", "model.name=test_resnet", "model.size=32", "model.weights=random", "model.classes=cifar10"]
    given += ["model.channels=1", "model.mean=[0.5]", "model.std=[0.5]", "data=cifar10", "data.validation=20"]
    given += ["explainer=saliency", "callbacks=representers", "callbacks.attribution.limit=0", "probe_batch_size=64"]
    given += ["callbacks.representers.limit=4", "callbacks.representers.pictures=1", "callbacks.representers.l2=1e-4"]
    tasks.execute(tasks.explain, composed("explain", [*given, "trainer=cpu", f"output={tmp_path}", "hydra.mode=RUN"]))
    facts = json.loads((tmp_path / "run.json").read_text())["representers"]
    assert (facts["training_images"], facts["test_images"]) == (100, 4) and facts["identity_error"] < 1e-6
    assert width(tmp_path / "figures" / "representers" / "points_cifar10_test_00000.png") > 800
