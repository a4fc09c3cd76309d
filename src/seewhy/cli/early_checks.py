"""What is checked before a run has a folder: a command that is refused leaves nothing behind."""

from __future__ import annotations

import copy
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from seewhy.cli.config import check_settings
from seewhy.cli.instantiate import build_object
from seewhy.cli.program import list_overrides, quieten
from seewhy.core.disclosure import print_error
from seewhy.core.errors import UserError


class EarlyChecks(Callback):
    """Check the settings and look for the weights before Hydra writes the first file."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the config of a single run; the jobs of a sweep are checked when their turn comes.

        Args:
            config: The composed config, with Hydra's own part.
            **kwargs: Not used.

        Raises:
            SystemExit: 2 where a setting is wrong or weights are missing.
        """
        quieten()
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
        except UserError as mistake:
            print_error(f"error: {mistake}")
            raise SystemExit(2) from None
        except OmegaConfBaseException as mistake:
            print_error(f"error: the config cannot be filled in: {str(mistake).splitlines()[0]}")
            raise SystemExit(2) from None


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
    if "model" not in cfg or (cfg.task == "train" and cfg.model.weights == "auto"):
        return
    from seewhy.models.build import choose_origin

    choose_origin(cfg.model.name, build_object(cfg.model.architecture, "model.architecture"), str(cfg.model.weights))
