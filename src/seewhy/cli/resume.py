"""Taking up a run where it ended: resume=<run folder>."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from seewhy.core.errors import UserError

RESUME = "resume="


def prepend_earlier_overrides(arguments: Sequence[str], task: str) -> list[str]:
    """The arguments of a command, with those of the run in `resume=<folder>` before them and that folder as output.

    Without `resume=` they are as they were. Raises UserError where the folder holds no run that can be taken up.
    """
    asked = [one.removeprefix(RESUME) for one in arguments if one.startswith(RESUME)]
    given = [one for one in arguments if not one.startswith(RESUME)]
    if not asked or asked[-1] in ("", "null"):
        return given
    if task != "explain":
        raise UserError(f"{task}.py cannot be taken up where it ended, only explain.py can: leave out resume=")
    if {"-m", "--multirun"} & set(arguments):
        raise UserError(
            "resume= goes on with one run; give the command of a sweep again, with hydra.sweep.dir=<its folder>"
        )
    from seewhy.runs.journal import Journal

    folder = Path(asked[-1]).expanduser()
    plan = Journal(folder).plan()
    if plan is None:
        there = "has no journal of a run" if folder.is_dir() else "does not exist"
        raise UserError(f"resume={folder} {there}: give the folder that the run named when it ended")
    own = ("output=", "hydra.", "trust_config=", "+trust_config=")  # trust is given by a person, each time
    earlier = [one for one in plan["overrides"] if not one.startswith(own)]
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [*earlier, *given, f"hydra.run.dir='{quoted}'"]


def take_up(task: str) -> None:
    """Put the arguments of an earlier run into this command; a mistake ends as one message and exit code 2.

    Jobs that a launcher starts elsewhere import the same sources.
    """
    sources = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [sources, os.environ.get("PYTHONPATH")]))
    try:
        sys.argv[1:] = prepend_earlier_overrides(sys.argv[1:], task)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def command(task: str, folder: str) -> str:
    """What to type to go on with the run in a folder."""
    script = sys.argv[0] if Path(sys.argv[0]).name == f"{task}.py" else f"src/{task}.py"
    return shlex.join([Path(sys.executable).name, script, f"{RESUME}{folder}"])
