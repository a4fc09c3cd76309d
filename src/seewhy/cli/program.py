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


def find_command(task: str) -> list[str]:
    """Find how the running command, or that of another task, is typed.

    Args:
        task: The task to be run.

    Returns:
        The words in front of the overrides. Outside of a command (in Python, in a test) they are those that work: the
        script of the checkout, or the console command of an installed package.
    """
    path = Path(sys.argv[0])
    python = Path(sys.executable).name
    if path.parts[-2:] == ("seewhy", "__main__.py"):
        return [python, "-m", "seewhy", task]
    if path.stem == "seewhy" or not (CHECKOUT / "src" / f"{task}.py").is_file():
        return ["seewhy", task]
    return [python, sys.argv[0] if path.name == f"{task}.py" else f"src/{task}.py"]
