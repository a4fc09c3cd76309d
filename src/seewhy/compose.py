"""The config of a command, composed in Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose as compose_config
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from seewhy.errors import UserError
from seewhy.mistyped import explain_mistake

CONFIGS = Path(__file__).parents[2] / "configs"
"""The yaml files of the checkout that this package lies in."""


def compose(task: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The config of `python src/<task>.py <overrides>`; UserError with the nearest names for a typo.

    A Hydra application that calls this keeps its own state.
    """
    state = GlobalHydra.instance()
    held, state.hydra = state.hydra, None
    try:
        with initialize_config_dir(str(config_folder()), job_name=task, version_base="1.3"):
            return compose_config(task, list(overrides))
    except HydraException as error:
        raise explain_mistake(error, config_folder(), task) from error
    finally:
        state.hydra = held


def config_folder() -> Path:
    """The folder configs/; UserError where the package lies outside a checkout."""
    if not (CONFIGS / "explain.yaml").is_file():
        raise UserError(
            f"there are no configs in {CONFIGS}: seewhy reads them from the checkout of its repository; install it "
            "from there with `make install`, or with `pip install -e <checkout>` into another environment"
        )
    return CONFIGS
