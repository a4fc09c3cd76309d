"""configs/logbook.yaml and the words of the command line -> studies and what the user gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seewhy.core.errors import UserError
from studies.part import FACTS, Part, Study
from studies.run_part import Inputs


class Asked(NamedTuple):
    """What one call of `make logbook` shall do."""

    studies: list[Study]
    inputs: Inputs
    force: bool
    reuse: bool
    limit: int | None


def asked(config: Path, words: Sequence[str]) -> Asked:
    """Read the config and `key=value` words over it. Raises UserError for a key or study that does not exist."""
    loaded = OmegaConf.load(config)
    OmegaConf.set_struct(loaded, True)
    keys = [key for key in loaded if key not in ("inputs", "studies")]
    if bare := [word for word in words if word.split("=", 1)[0] not in keys or "=" not in word]:
        raise UserError(f"{bare[0]!r} is not key=value with one of the keys {', '.join(map(str, keys))}")
    try:
        cfg: Any = OmegaConf.to_container(OmegaConf.merge(loaded, OmegaConf.from_dotlist(list(words))))
    except OmegaConfBaseException as error:
        raise UserError(f"{' '.join(words)}: {error}") from error
    only = [cfg["only"]] if isinstance(cfg["only"], str) else cfg["only"] or list(cfg["studies"])
    if unknown := [name for name in only if name not in cfg["studies"]]:
        raise UserError(f"only={unknown[0]}: the studies are {', '.join(cfg['studies'])}")
    studies = [_study(name, cfg["studies"][name]) for name in only]
    given = {name: _absolute(name, cfg[name], words) for name, words in cfg["inputs"].items()}
    limit = cfg["limit"]
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise UserError(f"limit={limit} must be a whole number from 1, or null")
    return Asked(studies, Inputs(given, cfg["inputs"]), bool(cfg["force"]), bool(cfg["reuse"]), limit)


def _study(name: str, values: Any) -> Study:
    return Study(name, values["title"], tuple(Part(*item) for item in values["parts"].items()), values["original"])


def _absolute(name: str, given: str | None, words: str) -> str | None:
    """The place that was given, from any folder; settings as they are. Raises UserError where there is nothing."""
    if given is None or name.endswith(FACTS):
        return given
    place = Path(given).expanduser().absolute()
    if not place.exists():
        raise UserError(f"{name}={given}: there is no such {'file' if words.startswith('weights') else 'folder'}")
    return str(place)
