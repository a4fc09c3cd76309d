"""From what Hydra could not compose to one message with what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seewhy.core.errors import UserError


def find_nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known words that are most like `word`, the likeliest first; case, `_` and `-` do not matter.

    >>> nearest("gradcam", ["grad_cam", "score_cam", "lime"], 1)
    ['grad_cam']
    """
    plain: dict[str, str] = {}
    for one in known:
        plain.setdefault(_plain(one), one)
    if _plain(word) in plain:
        return [plain[_plain(word)]]
    return [plain[match] for match in difflib.get_close_matches(_plain(word), plain, n=count, cutoff=0.6)]


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def explain_mistake(error: Exception, configs: Path, task: str) -> UserError:
    """The message for an error that Hydra raised while it composed `task`."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return describe_unknown_choice(error.missing_cfg_file, list(error.options or ()), configs)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
        asked = re.match(r"Could not override '(.+?)'", str(error))
        full_key = asked.group(1) if asked else str(cause.full_key)
        if str(cause.key) not in cause.parent_node:
            return describe_unknown_key(full_key, cause.parent_node, str(cause.full_key), configs)
    group = re.match(r"Could not override '(.+?)'\. No match in the defaults list", str(error))
    if group:
        return UserError(f"{group.group(1)}= is a group that {task} does not have; +{group.group(1)}= adds it")
    if str(error).startswith("Ambiguous value"):
        return _ambiguous(error)
    lines = [str(error).strip(), str(cause).split("\n")[0] if cause and str(cause) not in str(error) else ""]
    return UserError("\n".join(line for line in lines if line))


def describe_unknown_choice(path: str, options: list[str], configs: Path) -> UserError:
    """The message for `group/choice` where the group has no such choice."""
    group, _, choice = path.rpartition("/")
    options = options or sorted(found.stem for found in (configs / group).glob("*.yaml"))
    if not options:
        return UserError(f"there is no config {path!r}")
    meant = _meant([f"{group}={name}" for name in find_nearest(choice, options)])
    return UserError(f"{group}={choice}: there is no {group} {choice!r}; {meant}\n  choices: {', '.join(options)}")


def describe_unknown_key(
    full_key: str, parent: Mapping[Any, Any], failed: str | None = None, configs: Path | None = None, chosen: str = ""
) -> UserError:
    """The message for a key that is not in the config; `failed` is the first part of it that is not in `parent`."""
    failed = failed or full_key
    place, _, name = failed.rpartition(".")
    keys = [str(key) for key in parent if not str(key).startswith("_") and key != "hydra"]
    prefix = f"{place}." if place else ""
    rest = full_key.removeprefix(failed)
    kind = parent.get("_target_", "") if place else ""
    of = chosen or (f"{place} ({str(kind).rpartition('.')[2]})" if kind else place)
    meant = _meant([f"{prefix}{one}{rest}=" for one in find_nearest(name, keys)])
    elsewhere = find_choices_with_key(place, name, configs) if configs and place and not meant else []
    if elsewhere:
        meant = f"choices with such a key: {place}={', '.join(elsewhere)}"
    listed = f"\n  keys of {of}: " if place else "\n  groups and keys: "
    return UserError(f"{full_key}=: there is no such key; {meant}{listed}{', '.join(keys) or 'none'}")


def find_choices_with_key(group: str, key: str, configs: Path) -> list[str]:
    """The choices of a group whose yaml has that key."""
    found = sorted((configs / group).glob("*.yaml"))
    return [path.stem for path in found if key in (OmegaConf.load(path) or {})]


def _meant(likely: list[str]) -> str:
    return f"did you mean {' or '.join(likely)}?" if likely else ""


def _unreadable(error: OverrideParseException) -> UserError:
    key, _, value = error.override.partition("=")
    if not value or not re.fullmatch(r"[~+\w./@:-]+", key):
        return UserError(f"{error.override!r} is not understood: settings are key=value, such as explainer=rise")
    if value.startswith(("[", "{")):
        return UserError(
            f"{error.override!r} is not understood: a list needs both brackets and quotes, such as "
            "'metric=[deletion,insertion]'"
        )
    return UserError(
        f"{error.override!r} is not understood: a value with signs such as ( ) [ ] {{ }} = , : needs quotes inside of "
        f"the shell's, such as \"{key}='{value}'\""
    )


def _ambiguous(error: Exception) -> UserError:
    asked = re.search(r"argument '(.+?)'\n", str(error))
    key, _, value = (asked.group(1) if asked else "key=a,b").partition("=")
    return UserError(
        f"{key}={value}: a list needs brackets and quotes ('{key}=[{value}]'), a sweep over the values needs -m"
    )
