"""The config of a command: where its yaml files are, how it is composed in Python, and checks of its settings."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as compose_config
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seewhy.cli.instantiate import check_targets
from seewhy.cli.suggestions import explain_mistake
from seewhy.core.errors import UserError
from seewhy.core.files import find_resources

CONFIGS = find_resources("configs", "configs")
"""The yaml files: those of an installed package, else those of the checkout."""
EMPTIED = re.compile(r"(callbacks|logger|metric)=(\{\}|null)?")
"""An override that empties a group which takes a list."""


def normalise_overrides(overrides: Sequence[str]) -> list[str]:
    """Read an empty group as "none of its choices": Hydra would merge {} into the default choice, and refuse null.

    Args:
        overrides: As typed.

    Returns:
        The overrides, with `<group>=[]` for `<group>={}`, `<group>=null` and `<group>=` of a group that takes a list.

    >>> normalise_overrides(["logger={}", "metric=null", "logger=csv", "explainer={}"])
    ['logger=[]', 'metric=[]', 'logger=csv', 'explainer={}']
    """
    return [f"{text.partition('=')[0]}=[]" if EMPTIED.fullmatch(text.replace(" ", "")) else text for text in overrides]


LARGEST_SEED = 2**32 - 1


def find_config_folder() -> Path:
    """Find the folder of the yaml files.

    Returns:
        The folder that holds the primary configs.

    Raises:
        UserError: The sources lie outside a checkout and were not installed.
    """
    if not (CONFIGS / "explain.yaml").is_file():
        raise UserError(
            f"there are no configs in {CONFIGS}: install seewhy with `pip install <checkout>`, or run it in a checkout "
            "of its repository (`make install`)"
        )
    return CONFIGS


def compose(task: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the config of a command, also inside a Hydra application, which keeps its own state.

    Args:
        task: The name of a primary config, such as `explain`.
        overrides: Those of the command line, such as `["model=cifar_cnn", "data.limit=2"]`.

    Returns:
        The config of `python src/<task>.py <overrides>`, without Hydra's own part.

    Raises:
        UserError: A choice or key does not exist; the message names the nearest.
    """
    folder = find_config_folder()
    state = GlobalHydra.instance()
    outer, state.hydra = state.hydra, None
    try:
        with initialize_config_dir(str(folder), job_name=task, version_base="1.3"):
            return compose_config(task, normalise_overrides(overrides))
    except HydraException as error:
        raise explain_mistake(error, folder, task) from error
    finally:
        state.hydra = outer


def check_settings(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Check the settings at the top of a config, its references, and every `_target_`, before anything is built.

    `trust_config=true` counts only on the command line: a file cannot vouch for itself.

    Args:
        cfg: A composed config.
        overrides: Those of the command.

    Raises:
        UserError: A seed, threads or probe_batch_size is out of range, a reference is broken, or a `_target_` is
            outside what a config may call.
    """
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the config cannot be filled in: {str(error).splitlines()[0]}") from error
    plain_overrides = [text.lstrip("+").replace(" ", "").lower() for text in overrides]
    trusted = cfg.get("trust_config", False) is True and "trust_config=true" in plain_overrides
    check_targets(plain, trusted)
    _check_whole(plain["seed"], "seed", 0, LARGEST_SEED)
    if plain.get("threads") is not None:
        _check_whole(plain["threads"], "threads", 1, other="null (all cores) or ")
    if plain.get("probe_batch_size", "auto") != "auto":
        _check_whole(plain["probe_batch_size"], "probe_batch_size", 1, other="auto or ")


def _check_whole(value: Any, key: str, least: int, most: float = math.inf, other: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        limit = f"from {least}" + (f" to {most}" if most < math.inf else "")
        raise UserError(f"{key}={value} must be {other}a whole number {limit}")
