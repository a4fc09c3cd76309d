"""Resume an interrupted run: resume=<run folder>."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from seewhy.cli.instantiate import parse_value
from seewhy.cli.program import find_command
from seewhy.core.errors import UserError

RESUME = "resume="
BUILD = "model.build"
"""The code that builds a network of the user's own."""
ENVIRONMENT = "${oc.env:"
NOT_REPEATED = ("hydra", "output", "resume", "trust_config", BUILD)
"""Settings of an earlier run that a resumed one does not take over; trust is given by a person, each time."""
REPEATED = (
    *("callbacks", "corruption", "data", "experiment", "explainer", "logger", "metric", "model", "page"),
    *("probe_batch_size", "seed", "shard", "target", "threads", "trainer"),
)
"""Settings that a plan may hold: what a run computes. A plan may come from somebody else, so nothing else is admitted."""


def prepend_earlier_overrides(arguments: Sequence[str], task: str) -> list[str]:
    """Expand `resume=<folder>` into the overrides of the run in that folder.

    Args:
        arguments: Those of a command.
        task: Its task; only `explain` can be resumed.

    Returns:
        The overrides of the earlier run, those of this command, and that folder as output. Arguments without `resume=`
        are returned as they are.

    Raises:
        UserError: The folder holds no run that can be resumed, or the command is a sweep or another task.
    """
    folders = [argument.removeprefix(RESUME) for argument in arguments if argument.startswith(RESUME)]
    others = [argument for argument in arguments if not argument.startswith(RESUME)]
    if not folders or folders[-1] in ("", "null"):
        return others
    if task != "explain":
        raise UserError(f"{RESUME}{folders[-1]}: only explain can be resumed, not {task}; leave out {RESUME}")
    if {"-m", "--multirun"} & set(arguments):
        raise UserError(
            f"{RESUME} is for one run; to resume a sweep, repeat its command with hydra.sweep.dir=<its folder>"
        )
    from seewhy.runs.journal import Journal

    folder = Path(folders[-1]).expanduser()
    plan = Journal(folder).read_plan()
    if plan is None:
        lack = "has no journal of a run" if folder.is_dir() else "does not exist"
        raise UserError(f"{RESUME}{folder} {lack}: give the folder that the run named when it ended")
    earlier = select_repeated(plan["overrides"], folder, others)
    _check_own_code(plan["overrides"], others, folder)
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [*earlier, *others, f"hydra.run.dir='{quoted}'"]


def select_repeated(stored: Sequence[str], folder: Path, given: Sequence[str] = ()) -> list[str]:
    """Select what a resumed run takes over from the plan of a folder, which is not trusted.

    Args:
        stored: The overrides of the plan.
        folder: Where they come from.
        given: The overrides of this command.

    Returns:
        Those that say what the run computes.

    Raises:
        UserError: The plan holds something that is no override, a setting that no run stores there, or a value of the
            environment or a setting of a logger that this command does not name again.
    """
    repeated, typed = [], {_find_key(text) for text in given}
    for text in stored:
        key = _find_key(text)
        root = re.split(r"[./]", key)[0] if key else None
        if root in NOT_REPEATED or key in NOT_REPEATED:
            continue
        is_private = ENVIRONMENT in text and not _chooses_code(text, str(key))
        if root in REPEATED and (is_private or _chooses_receiver(text, str(key))):
            if key in typed:
                continue
            asked = "takes a value from your environment" if is_private else "says where results are sent"
            raise UserError(
                f"{RESUME}{folder}: {text[:80]!a} {asked}, which no folder may ask for: add it to the command if you know "
                "and trust it"
            )
        if root not in REPEATED or "${oc." in text or _chooses_code(text, str(key)):
            raise UserError(
                f"{RESUME}{folder}: its plan holds {text[:80]!a}, which no run of seewhy stores there; do not resume a "
                "folder that was edited or that you do not trust"
            )
        repeated.append(text)
    return repeated


def _find_key(override: str) -> str | None:
    """The key that an override sets, adds or deletes; None where it is no override."""
    try:
        return str(OverridesParser.create().parse_override(override).key_or_group)
    except (HydraException, RecursionError):
        return None


def _chooses_code(override: str, key: str) -> bool:
    """Whether an override writes the source of the network itself, which could then name code of its own."""
    return key.startswith("model.architecture") or (key == "model" and isinstance(parse_value(override, key), dict))


def _chooses_receiver(override: str, key: str) -> bool:
    """Whether an override sets up a logger, which could then send what the run knows to a server of its own."""
    return (key.startswith("logger.") and not override.startswith("~")) or (
        key == "logger" and isinstance(parse_value(override, key), dict)
    )


def _check_own_code(stored: Sequence[str], given: Sequence[str], folder: Path) -> None:
    """UserError where code built the network of the run, and this command does not name it again."""
    builds = [parse_value(text, BUILD) for text in stored if _find_key(text) == BUILD]
    if builds and builds[-1] is not None and not any(_find_key(text) == BUILD for text in given):
        raise UserError(
            f"{RESUME}{folder}: {str(builds[-1])[:80]!a} builds its network, and that code would run: add "
            f"{BUILD}={str(builds[-1])[:80]} to the command if you know and trust it"
        )


def build_resume_command(task: str, folder: str, overrides: Sequence[str] = (), folders: Sequence[str] = ()) -> str:
    """Build the command that resumes the run in a folder.

    Args:
        task: The task of the run.
        folder: Its run folder.
        overrides: Those of its command; trust, code of one's own, loggers and values of the environment are not taken from
            a folder, but typed again.
        folders: Those that it named with --config-dir or hydra.searchpath=.

    Returns:
        One line for a shell.
    """
    again = [
        text
        for text in overrides
        if _find_key(text) in ("trust_config", BUILD)
        or ENVIRONMENT in text
        or _chooses_receiver(text, _find_key(text) or "")
    ]
    plain = len(folders) == 1 and "://" not in folders[0]
    configs = ["--config-dir", *folders] if plain else [f"hydra.searchpath=[{','.join(folders)}]"] * bool(folders)
    return shlex.join([*find_command(task), f"{RESUME}{folder}", *configs, *again])
