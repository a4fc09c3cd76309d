"""Commands run in this process, and what they leave behind."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from seewhy.cli import tasks

CONFIGS = Path(__file__).parents[1] / "configs"


Runner = Callable[..., Path]


def composed(task: str, overrides: list[str]) -> DictConfig:
    """The config of a command, with Hydra's own part set as it is inside the command."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose(task, overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    OmegaConf.set_struct(cfg, False)
    cfg.pop("hydra")
    return cfg


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """Runs the explain command on the tutorial network with random weights, in a folder of its own."""

    def go(*overrides: str, name: str = "run") -> Path:
        folder = tmp_path / name
        given = ["model=cifar_cnn", "model.weights=random", "trainer=cpu", "probe_batch_size=16", f"output={folder}"]
        cfg = composed("explain", [*given, "hydra.mode=RUN", *overrides])
        tasks.execute(tasks.explain, cfg)
        return folder

    return go


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def width(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.width
