"""The settings at the top of a config, checked before anything is built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seewhy.errors import UserError
from seewhy.trusted_targets import check_targets

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
