"""Resume an interrupted run: resume=<run folder>."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from seewhy.cli.program import find_command
from seewhy.core.errors import UserError

RESUME = "resume="
NOT_REPEATED = ("hydra", "output", "resume", "trust_config")
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
    earlier = select_repeated(plan["overrides"], folder)
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [*earlier, *others, f"hydra.run.dir='{quoted}'"]


def select_repeated(stored: Sequence[str], folder: Path) -> list[str]:
    """Select what a resumed run takes over from the plan of a folder, which is not trusted.

    Args:
        stored: The overrides of the plan.
        folder: Where they come from.

    Returns:
        Those that say what the run computes.

    Raises:
        UserError: The plan holds something that is no override, or a setting that no run stores there.
    """
    repeated = []
    for text in stored:
        root = _find_root(text)
        if root in NOT_REPEATED:
            continue
        if root not in REPEATED or "${oc." in text:
            raise UserError(
                f"{RESUME}{folder}: its plan holds {text[:80]!a}, which no run of seewhy stores there; do not resume a "
                "folder that was edited or that you do not trust"
            )
        repeated.append(text)
    return repeated


def _find_root(override: str) -> str | None:
    """The first part of the key that an override sets, adds or deletes; None where it is no override."""
    try:
        key = OverridesParser.create().parse_override(override).key_or_group
    except (HydraException, RecursionError):
        return None
    return re.split(r"[./]", key)[0]


def build_resume_command(task: str, folder: str) -> str:
    """Build the command that resumes the run in a folder.

    Args:
        task: The task of the run.
        folder: Its run folder.

    Returns:
        One line for a shell.
    """
    return shlex.join([*find_command(task), f"{RESUME}{folder}"])
