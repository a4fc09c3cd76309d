"""The console command `seewhy`, also as `python -m seewhy`: its first word is a task, the rest is the task's.

Nothing heavy is imported before a task is chosen.
"""

from __future__ import annotations

import difflib
import os
import sys
from typing import NoReturn

from seewhy.cli.program import TASKS
from seewhy.core import signals


def main() -> None:
    """Run the task that the first word of the command line names, or list the tasks.

    Raises:
        SystemExit: 2 where there is no such task, else with the exit code of the task.
    """
    signals.exit_while_starting()
    signals.outlive_readers()
    arguments = sys.argv[1:]
    word = arguments[0] if arguments else "--help"
    if word in ("-h", "--help", "help"):
        print("\n".join(f"seewhy {task:<12} {words}" for task, words in TASKS.items()))
    elif word == "--version":
        from seewhy import __version__

        print(f"seewhy {__version__}")
    elif word == "-sc":
        _complete(arguments)
    elif word in TASKS:
        _run(word, arguments[1:])
    else:
        _refuse(word)


def _run(task: str, arguments: list[str]) -> None:
    from seewhy.cli.main import run_task

    run_task(task, arguments)


def _refuse(word: str) -> NoReturn:
    near = difflib.get_close_matches(word, TASKS, n=1)
    meant = f"; did you mean seewhy {near[0]}?" if near else ""
    print(f"error: there is no task {word!r}{meant}\n  tasks: {', '.join(TASKS)}", file=sys.stderr)
    raise SystemExit(2)


def _complete(arguments: list[str]) -> None:
    """Answer a shell that completes `seewhy ...`: with the tasks, then with what Hydra offers for the task."""
    program, _, line = os.environ.get("COMP_LINE", "").lstrip().partition(" ")
    task, blank, overrides = line.lstrip().partition(" ")
    if "uninstall=bash" in arguments:
        _run("explain", arguments)
    elif task in TASKS and blank:
        os.environ["COMP_LINE"] = f"{program} {overrides}"
        _run(task, arguments)
    else:
        print("\n".join(TASKS))


if __name__ == "__main__":
    main()
