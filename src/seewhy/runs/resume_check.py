"""Whether a run folder holds the run, and the shard of it, that is asked for: the plans of both are compared."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from seewhy.core.errors import UserError

FREE = re.compile(
    r"output|page|resume|shard|threads|logger(\..*)?"
    r"|data\.num_workers|(.*\.)?probe_batch_size"
    r"|trainer\.(accelerator|devices|num_nodes|strategy|default_root_dir|log_every_n_steps|enable_.*)"
    r"|callbacks\.\w+\.folder|callbacks\.(figures|logging|terminal|progress)\.(?!_target_$).*"
)
"""Keys that decide where, how fast and how many, or how it is drawn, but no number of the tables."""
LONGEST = 60
"""Characters of a value in a message."""


class ChangedRun(UserError):
    """What is asked for is not what the run folder holds."""


def select_decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Select the keys of a config that decide what a run computes.

    Args:
        config: Nested, with every interpolation filled in.

    Returns:
        Each value under its dotted key.

    >>> select_decisive({"seed": 1, "threads": 4, "explainer": {"n_steps": 8, "probe_batch_size": 16}})
    {'seed': 1, 'explainer.n_steps': 8}
    """
    return {key: value for key, value in _flatten(config) if not FREE.fullmatch(key)}


def check_same_plan(old: Mapping[str, Any], new: Mapping[str, Any], folder: str) -> None:
    """Check that two plans compute the same.

    Args:
        old: Of the run in the folder.
        new: Of the run that is asked for.
        folder: Named in the message.

    Raises:
        ChangedRun: They do not; the message names what differs.
    """
    changes = describe_differences(old, new)
    if changes:
        raise ChangedRun(
            f"{folder} holds a run of something else, whose images cannot be mixed with these: {'; '.join(changes)}. "
            "Take back the change, or start a run of its own in another folder (leave out resume= and output=)"
        )


def describe_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Describe how two plans differ; a callback's copy of another key is not repeated.

    Args:
        old: A plan: the decisive keys under `config`, and facts of data, weights and device.
        new: Another plan.

    Returns:
        `key: old → new` for each key whose value differs.

    >>> describe_differences({"config": {"seed": 0}, "images": 8}, {"config": {"seed": 1}, "images": 8})
    ['seed: 0 → 1']
    """
    before, after = (dict(_list_values(plan)) for plan in (old, new))
    absent = object()
    keys = [key for key in before | after if before.get(key, absent) != after.get(key, absent)]
    changes = {key: f"{_shorten(before, key)} → {_shorten(after, key)}" for key in keys}
    own = {change for key, change in changes.items() if not key.startswith("callbacks.")}
    repeated = {key for key, change in changes.items() if key.startswith("callbacks.") and change in own}
    return [f"{key}: {change}" for key, change in changes.items() if key not in repeated]


def select_shared(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Select what the plans of all shards of a run share; copies of the images on other machines have other times.

    Args:
        plan: Of a run or of a shard.

    Returns:
        The plan without its shard, its overrides and the times of files.
    """
    data = {key: value for key, value in plan["data"].items() if not key.startswith("times")}
    return {key: value for key, value in plan.items() if key not in ("shard", "overrides")} | {"data": data}


def identify_run(plan: Mapping[str, Any] | None) -> str:
    """Compute what tells the batches of a run from those of others.

    Args:
        plan: Of the run or of a shard; None for a journal that lasts for one loop.

    Returns:
        A digest, the same for all shards of a run; empty without a plan.
    """
    if plan is None:
        return ""
    plain = json.loads(json.dumps(select_shared(plan), default=str))  # as it is read from a file
    text = json.dumps(plain, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a nested mapping; an empty one is a value.

    >>> dict(_flatten({"a": {"b": 1, "c": [2, 3]}, "d": {}}))
    {'a.b': 1, 'a.c': [2, 3], 'd': {}}
    """
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _list_values(plan: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in plan.items():
        if key == "config":
            yield from value.items()
        elif isinstance(value, Mapping):
            yield from ((f"{key} ({name})", entry) for name, entry in value.items())
        elif key != "overrides":
            yield key, value


def _shorten(plan: Mapping[str, Any], key: str) -> str:
    text = str(plan[key]) if key in plan else "(not set)"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


Item = TypeVar("Item")


class Shard(NamedTuple):
    """Every total-th batch of a run, so that all shards take about as long.

    Attributes:
        number: Of the shard, from 1.
        total: How many shards the run has.
    """

    number: int = 1
    total: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """Read a shard from a setting.

        Args:
            text: `i/n` with i from 1 to n; None: all of the run.

        Returns:
            The shard.

        Raises:
            UserError: The text has another form.

        >>> Shard.parse("2/3").select("abcdefg")
        ['b', 'e']
        """
        if text is None:
            return cls()
        match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", str(text))
        if not match or int(match[1]) > int(match[2]):
            raise UserError(
                f"shard={text} must be i/n with i from 1 to n, such as shard=2/8 for the second of eight parts"
            )
        return cls(int(match[1]), int(match[2]))

    def select(self, batches: Sequence[Item]) -> list[Item]:
        """Select what belongs to this shard.

        Args:
            batches: All batches of the run.

        Returns:
            Those of the shard, in order.
        """
        return list(batches[self.number - 1 :: self.total])

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"
