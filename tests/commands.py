"""Commands run in this process, and what they leave behind."""

from __future__ import annotations

import copy
import csv
import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from seewhy.cli import tasks

CONFIGS = Path(__file__).parents[1] / "configs"


Runner = Callable[..., Path]


def composed(task: str, overrides: list[str]) -> DictConfig:
    """The config of a command, with Hydra's own part set as it is inside the command.

    What the same choices come to is composed once, in some 0.15 s; Hydra's function then sets the values in a copy.
    """
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = [one for one in parsed if not one.is_hydra_override() and not (CONFIGS / one.key_or_group).is_dir()]
    cfg = copy.deepcopy(_choose(task, tuple(one.input_line for one in parsed if one not in values)))
    ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    cfg.hydra.overrides.task = [one.input_line for one in parsed if not one.is_hydra_override()]
    cfg.hydra.runtime.cwd = os.getcwd()
    HydraConfig.instance().set_config(cfg)
    OmegaConf.set_struct(cfg, False)
    cfg.pop("hydra")
    return cfg


@functools.cache
def _choose(task: str, choices: tuple[str, ...]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(task, list(choices), return_hydra_config=True)


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
