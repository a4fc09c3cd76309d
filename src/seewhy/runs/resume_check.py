"""What a run computes, and how two of them differ.

A part of the batches of a run, for one of several machines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from seewhy.core.errors import UserError

FREE = re.compile(
    r"output|page|resume|shard|threads|logger(\..*)?"
    r"|data\.num_workers|(.*\.)?probe_batch_size"
    r"|trainer\.(accelerator|devices|num_nodes|strategy|default_root_dir|log_every_n_steps|enable_.*)"
    r"|callbacks\.\w+\.folder|callbacks\.(figures|logging|terminal|progress)\.(?!_target_$).*"
)
"""Keys that decide where, how fast and how many, or how it is drawn, but no number of the tables."""
LONGEST = 60


class ChangedRun(UserError):
    """What is asked for is not what the run folder holds."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a nested mapping; an empty one is a value.

    >>> dict(flat({"a": {"b": 1, "c": [2, 3]}, "d": {}}))
    {'a.b': 1, 'a.c': [2, 3], 'd': {}}
    """
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def select_decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a config that decide what a run computes.

    >>> decisive({"seed": 1, "threads": 4, "explainer": {"n_steps": 8, "probe_batch_size": 16}})
    {'seed': 1, 'explainer.n_steps': 8}
    """
    return {key: value for key, value in flatten(config) if not FREE.fullmatch(key)}


def describe_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Each key whose value differs between two plans, as `key: old → new`; a callback's copy of another key is not repeated.

    >>> differences({"config": {"seed": 0}, "images": 8}, {"config": {"seed": 1}, "images": 8})
    ['seed: 0 → 1']
    """
    one, other = (dict(_parts(plan)) for plan in (old, new))
    nothing = object()
    keys = [key for key in {**one, **other} if one.get(key, nothing) != other.get(key, nothing)]
    changes = {key: f"{_short(one, key)} → {_short(other, key)}" for key in keys}
    named = {change for key, change in changes.items() if not key.startswith("callbacks.")}
    repeated = {key for key, change in changes.items() if key.startswith("callbacks.") and change in named}
    return [f"{key}: {change}" for key, change in changes.items() if key not in repeated]


def _parts(plan: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in plan.items():
        if key == "config":
            yield from value.items()
        elif isinstance(value, Mapping):
            yield from ((f"{key} ({part})", each) for part, each in value.items())
        elif key != "overrides":
            yield key, value


def _short(plan: Mapping[str, Any], key: str) -> str:
    text = str(plan[key]) if key in plan else "(not set)"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def check_same_plan(old: Mapping[str, Any], new: Mapping[str, Any], folder: str) -> None:
    """Raise ChangedRun, naming what differs, unless both plans compute the same."""
    changes = describe_differences(old, new)
    if changes:
        raise ChangedRun(
            f"{folder} holds a run of something else, whose images cannot be mixed with these: {'; '.join(changes)}. "
            "Take back the change, or start a run of its own in another folder (leave out resume= and output=)"
        )
