"""configs/logbook.yaml and the words of the command line -> studies and what the user gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seewhy.core.errors import UserError, find_nearest
from seewhy.core.settings import ImageCount, PathText, Text, check_value
from studies.part import FACTS, Part, Study
from studies.run_part import Inputs


class Asked(NamedTuple):
    """What one call of `make logbook` shall do."""

    studies: list[Study]
    inputs: Inputs
    force: bool
    reuse: bool
    limit: int | None


SETTINGS: dict[Any, Any] = {
    "only": Text | Sequence[Text] | None,
    "force": bool,
    "reuse": bool,
    "limit": ImageCount | None,
}
"""What the keys of configs/logbook.yaml take; those of data and weights take a path."""


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
    for key in keys:
        check_value(str(key), cfg[key], SETTINGS.get(key, PathText | None))
    only = [cfg["only"]] if isinstance(cfg["only"], str) else cfg["only"] or list(cfg["studies"])
    if unknown := [name for name in only if name not in cfg["studies"]]:
        starts = {name.split("_")[0]: name for name in cfg["studies"]}
        near = find_nearest(unknown[0], cfg["studies"], 1) or [
            starts[each] for each in find_nearest(unknown[0], starts, 1)
        ]
        meant = f"did you mean only={near[0]}? " if near else ""
        raise UserError(f"only={unknown[0]}: {meant}The studies are {', '.join(cfg['studies'])}")
    studies = [_study(name, cfg["studies"][name]) for name in only]
    given = {name: _absolute(name, cfg[name], words) for name, words in cfg["inputs"].items()}
    return Asked(studies, Inputs(given, cfg["inputs"]), cfg["force"], cfg["reuse"], cfg["limit"])


def _study(name: str, values: Any) -> Study:
    return Study(name, values["title"], tuple(Part(*item) for item in values["parts"].items()), values["original"])


def _absolute(name: str, given: str | None, words: str) -> str | None:
    """The place that was given, from any folder; settings as they are. Raises UserError where there is nothing."""
    if given is None or name.endswith(FACTS):
        return given
    place = Path(str(given)).expanduser().absolute()
    if not place.exists():
        raise UserError(f"{name}={given}: there is no such {'file' if words.startswith('weights') else 'folder'}")
    return str(place)
