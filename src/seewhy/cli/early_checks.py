"""What is checked before a run or the first job of a sweep has a folder: a refused command leaves nothing behind."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from seewhy.cli.config import check_settings, find_config_folder
from seewhy.cli.instantiate import build_object
from seewhy.cli.program import list_overrides, quieten
from seewhy.cli.suggestions import describe_broken_reference, explain_mistake
from seewhy.cli.sweep import find_varied_overrides, list_jobs
from seewhy.core.disclosure import print_error
from seewhy.core.errors import UserError


class EarlyChecks(Callback):
    """Check the settings and look for the weights before Hydra writes the first file."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the config of a single run.

        Args:
            config: The composed config, with Hydra's own part.
            **kwargs: Not used.

        Raises:
            SystemExit: 2 where a setting is wrong or weights are missing.
        """
        quieten()
        try:
            check_config(config)
        except UserError as mistake:
            print_error(f"error: {mistake}")
            raise SystemExit(2) from None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the config of every job of a sweep before the first one begins: a typo is not told hours later.

        Args:
            config: The composed config of the sweep, with Hydra's own part.
            **kwargs: Not used.

        Raises:
            SystemExit: 2 where a job would be refused; each is named with its reason.
        """
        quieten()
        jobs = list_jobs(config)
        mistakes = [_find_mistake(config, job) for job in jobs]
        names = find_varied_overrides([{"overrides": job, "task": config.task} for job in jobs])
        refused = [f"  {name}: {words}" for name, words in zip(names, mistakes, strict=True) if words]
        lack = _find_lack_of_processors(config.hydra.launcher)
        if refused:
            print_error(f"error: {len(refused)} of {len(jobs)} jobs cannot run; none was begun")
            for line in refused:
                print_error(line)
        elif lack:
            print_error(f"error: {lack}")
        if refused or lack:
            raise SystemExit(2)


def check_config(config: DictConfig) -> None:
    """Check the settings of a run, and look for its weights.

    Args:
        config: Its composed config, with Hydra's own part.

    Raises:
        UserError: A setting is wrong, or weights are missing.
    """
    whole = copy.deepcopy(config)
    with read_write(whole), open_dict(whole):
        whole.hydra.runtime.output_dir = "."  # it is not known yet; no check looks at it
        HydraConfig.instance().set_config(whole)
        overrides = list_overrides(whole.hydra)
        command = str(whole.hydra.job.config_name)
        del whole["hydra"]
    try:
        check_task(whole, command)
        check_settings(whole, overrides)
        find_weights(whole)
        _check_certificate(whole)
    except OmegaConfBaseException as error:
        raise describe_broken_reference(error) from error


def _check_certificate(config: DictConfig) -> None:
    """Refuse a certificate that is not there before a sweep of hours, at whose end it is read."""
    path = config.get("certificate")
    if path is not None and not Path(str(path)).is_file():
        raise UserError(
            f"certificate={path} is no file; give the certificate.csv of a ground_truth run, or leave it out"
        )


def _find_mistake(config: DictConfig, job: Sequence[str]) -> str:
    """What is wrong with a job of a sweep, in one line; empty where nothing is."""
    try:
        composed = GlobalHydra.instance().config_loader().load_sweep_config(config, list(job))
        with read_write(composed), open_dict(composed):
            composed.hydra.job.id, composed.hydra.job.num = "0", 0
        check_config(composed)
    except UserError as mistake:
        return str(mistake).splitlines()[0]
    except HydraException as error:
        return str(explain_mistake(error, find_config_folder(), str(config.hydra.job.config_name))).splitlines()[0]
    except OmegaConfBaseException as error:
        return str(describe_broken_reference(error))
    return ""


def _find_lack_of_processors(launcher: DictConfig) -> str:
    """Why jobs would wait for ever in the queue of Slurm: no node has as many processors as they ask for."""
    wanted = launcher.get("cpus_per_task")
    if not str(launcher.get("_target_", "")).endswith(".SlurmLauncher") or not isinstance(wanted, int):
        return ""
    partition = [f"--partition={launcher.partition}"] if launcher.get("partition") else []
    try:
        listed = subprocess.run(
            ["sinfo", "--noheader", "--format=%c", *partition], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""  # the launcher itself says so where there is no Slurm
    most = max(map(int, re.findall(r"^\s*(\d+)", listed.stdout, re.MULTILINE)), default=wanted)
    asked = f"hydra.launcher.cpus_per_task={wanted}"
    return f"{asked}: no node of the cluster has more than {most} processors" if wanted > most else ""


def check_task(cfg: DictConfig, command: str) -> None:
    """Refuse a config whose task is another than the command.

    Args:
        cfg: The composed config.
        command: The name of its primary config.

    Raises:
        UserError: `task` was set.
    """
    if cfg.get("task") != command:
        raise UserError(
            f"task={cfg.get('task')} must be {command}: the command says what is done; give seewhy {cfg.get('task')}"
        )


def find_weights(cfg: DictConfig) -> None:
    """Look where the weights of `model` come from, without importing torch.

    Args:
        cfg: A checked config.

    Raises:
        UserError: They are missing.
    """
    trains = cfg.task == "train" or bool(cfg.get("ground_truth"))
    if "model" not in cfg or (trains and cfg.model.weights == "auto"):
        return
    from seewhy.models.build import choose_origin

    choose_origin(cfg.model.name, build_object(cfg.model.architecture, "model.architecture"), str(cfg.model.weights))
