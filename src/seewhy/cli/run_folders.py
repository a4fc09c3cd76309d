"""Run folders are chosen and checked before Hydra writes the first file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from seewhy.cli.program import list_overrides
from seewhy.core.disclosure import print_error
from seewhy.core.errors import UserError, shorten_path
from seewhy.core.files import name_files
from seewhy.core.signals import end_sweep_in_order, is_first_process
from seewhy.runs.ownership import check_folder_is_free, check_folder_name, create_new_folder, refuse_links


class RunFolders(Callback):
    """Give each run and each sweep a folder of its own, and refuse one that belongs to something else.

    A folder that the user names is checked. One that the config names after the time is created here, so that two runs
    which begin in the same second get two folders.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check or create the folder of a single run.

        Args:
            config: The composed config, with Hydra's own part; `hydra.run.dir` may be changed.
            **kwargs: Not used.

        Raises:
            SystemExit: 2 where the folder cannot be used.
        """
        if not is_first_process():
            return
        folder = _claim(config, "run", str(config.task))
        with read_write(config.hydra):
            config.hydra.run.dir = str(folder)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check or create the folder of a sweep, whose jobs get folders inside of it.

        Args:
            config: The composed config, with Hydra's own part; `hydra.sweep.dir` may be changed.
            **kwargs: Not used.

        Raises:
            SystemExit: 2 where the folder cannot be used.
        """
        folder = _claim(config, "sweep", str(config.task))
        with read_write(config.hydra):
            config.hydra.sweep.dir = str(folder)

        def explain(reason: str) -> None:
            print_error(f"\ninterrupted ({reason}); the jobs of the sweep are in {folder}")
            print_error(f"to resume the sweep: the same command with hydra.sweep.dir={folder}")

        end_sweep_in_order(explain)


def _claim(config: DictConfig, kind: str, task: str) -> Path:
    key = f"hydra.{kind}.dir"
    named = any(override.lstrip("+").startswith(f"{key}=") for override in list_overrides(config.hydra, "hydra"))
    HydraConfig.instance().set_config(config)  # the folder's name refers to it; Hydra does the same a moment later
    name = str(OmegaConf.to_container(config.hydra[kind])["dir"])  # type: ignore[call-overload,index]
    try:
        name = str(config.hydra[kind].dir)
        check_folder_name(name, key)
        folder = Path(name)
        if not named:
            return create_new_folder(folder)
        if kind == "run":
            check_folder_is_free(folder, task, list_overrides(config.hydra))
        elif folder.exists():
            _check_sweep_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    except UserError as error:
        _refuse(str(error))
    except OmegaConfBaseException as error:
        _refuse(f"{key}={name} cannot be filled in: {str(error).splitlines()[0]}; name another folder with {key}=")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        _refuse(f"the folder {shorten_path(name)} cannot be used ({reason}); name another with {key}=")


GENERAL = ("own", "torchvision", "timm", "transformers")
"""Choices of a network that do not say which one it is."""


def name_network(*, _root_: DictConfig) -> str:
    """Name the network of a config for the folder of its run.

    Args:
        _root_: The composed config, with Hydra's own part.

    Returns:
        The choice of `model`; where that stands for many networks the name of the one, safe for files, unless it is a
        reference, or the sweep was begun when its folders had the choice.
    """
    hydra = _root_.hydra
    choice = str(hydra.runtime.choices.get("model"))
    settings: Any = OmegaConf.to_container(_root_.get("model") or OmegaConf.create(), resolve=False)
    words = settings.get("build") if choice == "own" else settings.get("name")
    if choice not in GENERAL or not isinstance(words, str) or "${" in words or not Path(words).name:
        return choice
    is_job = hydra.get("mode") == RunMode.MULTIRUN and not OmegaConf.is_missing(hydra.job, "num")
    if is_job and any(Path(str(hydra.sweep.dir)).glob(f"{hydra.job.num}_{choice}_*")):
        return choice
    (network,) = name_files([Path(words).name]).values()
    return network


def register_network_name() -> None:
    """Resolve ${network:}, which the names of folders hold."""
    OmegaConf.register_new_resolver("network", name_network, replace=True)


register_network_name()  # also in the processes of a launcher, which import the callback of this module


def _check_sweep_folder(folder: Path) -> None:
    """Refuse a folder that holds something other than the jobs of a sweep."""
    if not folder.is_dir():
        raise UserError(f"the sweep folder {folder} is a file; name a folder with hydra.sweep.dir=")
    refuse_links(folder, "hydra.sweep.dir")
    if any(folder.iterdir()) and not (folder / "multirun.yaml").is_file():
        raise UserError(
            f"the folder {folder} holds files that no sweep wrote; nothing was changed. Name a new or an empty folder with "
            "hydra.sweep.dir="
        )


def _refuse(reason: str) -> NoReturn:
    print_error(f"error: {reason}")
    raise SystemExit(2)
