"""The config of a command, composed in Python.

The settings at the top of a config, checked before anything is built.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as compose_config
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seewhy.cli.suggestions import explain_mistake
from seewhy.cli.trusted_targets import check_targets
from seewhy.core.errors import UserError

CONFIGS = Path(__file__).parents[3] / "configs"
"""The yaml files of the checkout that this package lies in."""


def compose(task: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The config of `python src/<task>.py <overrides>`; UserError with the nearest names for a typo.

    A Hydra application that calls this keeps its own state.
    """
    state = GlobalHydra.instance()
    held, state.hydra = state.hydra, None
    try:
        with initialize_config_dir(str(find_config_folder()), job_name=task, version_base="1.3"):
            return compose_config(task, list(overrides))
    except HydraException as error:
        raise explain_mistake(error, find_config_folder(), task) from error
    finally:
        state.hydra = held


def find_config_folder() -> Path:
    """The folder configs/; UserError where the package lies outside a checkout."""
    if not (CONFIGS / "explain.yaml").is_file():
        raise UserError(
            f"there are no configs in {CONFIGS}: seewhy reads them from the checkout of its repository; install it "
            "from there with `make install`, or with `pip install -e <checkout>` into another environment"
        )
    return CONFIGS


LARGEST_SEED = 2**32 - 1


def check_settings(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """UserError for a wrong seed, threads or probe_batch_size, a broken reference, or a `_target_` that is not known.

    `trust_config=true` counts only where it is among the `overrides` of the command: a file cannot vouch for itself.
    """
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the config cannot be filled in: {str(error).splitlines()[0]}") from error
    given = [text.lstrip("+").replace(" ", "").lower() for text in overrides]
    trusted = cfg.get("trust_config", False) is True and "trust_config=true" in given
    check_targets(plain, trusted)
    _whole(plain["seed"], "seed", 0, LARGEST_SEED)
    if plain.get("threads") is not None:
        _whole(plain["threads"], "threads", 1, other="null (all cores) or ")
    if plain.get("probe_batch_size", "auto") != "auto":
        _whole(plain["probe_batch_size"], "probe_batch_size", 1, other="auto or ")


def _whole(value: Any, key: str, least: int, most: float = math.inf, other: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        limit = f"from {least}" + (f" to {most}" if most < math.inf else "")
        raise UserError(f"{key}={value} must be {other}a whole number {limit}")
