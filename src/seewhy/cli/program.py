"""The tasks, and how their commands are typed: `python src/explain.py`, `seewhy explain` or `python -m seewhy explain`."""

from __future__ import annotations

import sys
from pathlib import Path

from seewhy.core.resources import CHECKOUT

TASKS = {
    "explain": "a map for each image, with figures, tables and scores",
    "train": "train a classifier, test it, explain test images with it",
    "robustness": "how predictions and explanations change under corruption",
    "synthesize": "fooling images and class visualizations",
    "report": "join the runs of a sweep into one comparison",
}
"""Each task with what it does."""


def find_command_line() -> list[str]:
    """Find the running command as it is typed.

    Returns:
        Its words; repeated in the same folder they run the same command.
    """
    return [*_find_program(), *sys.argv[1:]]


def find_command(task: str) -> list[str]:
    """Find the command of a task as it is typed.

    Args:
        task: The task to be run.

    Returns:
        The words in front of the overrides: those of the running command where they fit, else those that work, the
        script of the checkout or the console command of an installed package.
    """
    program = _find_program()
    if program[-1] == "seewhy":
        return [*program, task]
    if Path(program[-1]).name == f"{task}.py":
        return program
    script = f"src/{task}.py"
    return [program[0], script] if (CHECKOUT / script).is_file() else ["seewhy", task]


def _find_program() -> list[str]:
    """Find what is typed for `sys.argv[0]`."""
    path = Path(sys.argv[0])
    python = Path(sys.executable).name
    if path.parts[-2:] == ("seewhy", "__main__.py"):
        return [python, "-m", "seewhy"]
    return ["seewhy"] if path.stem == "seewhy" else [python, sys.argv[0]]
