"""Resume an interrupted run: resume=<run folder>."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from seewhy.cli.program import find_command
from seewhy.core.errors import UserError

RESUME = "resume="
OWN = ("output=", "hydra.", "trust_config=", "+trust_config=")
"""Overrides of an earlier run that are not repeated; trust is given by a person, each time."""


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
    earlier = [override for override in plan["overrides"] if not override.startswith(OWN)]
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [*earlier, *others, f"hydra.run.dir='{quoted}'"]


def build_resume_command(task: str, folder: str) -> str:
    """Build the command that resumes the run in a folder.

    Args:
        task: The task of the run.
        folder: Its run folder.

    Returns:
        One line for a shell.
    """
    return shlex.join([*find_command(task), f"{RESUME}{folder}"])
