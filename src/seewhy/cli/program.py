"""The tasks, how their commands are typed, and which messages of libraries their users do not see."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from seewhy.core.files import CHECKOUT

TASKS = {
    "explain": "a map for each image, with figures, tables and scores",
    "train": "train a classifier, test it, explain test images with it",
    "robustness": "how predictions and explanations change under corruption",
    "synthesize": "fooling images and class visualizations",
    "doctor": "what is wrong with a classifier, tried on images",
    "compare": "whether two classifiers answer for the same reasons",
    "audit": "what a classifier uses besides the object",
    "ground_truth": "which explainer is right where the truth is known",
    "report": "join the runs of a sweep into one comparison",
}
"""Each task with what it does."""


def find_command_line() -> list[str]:
    """Find the running command as it is typed.

    Returns:
        Its words; repeated in the same folder they run the same command.
    """
    return [*_find_program(), *sys.argv[1:]]


def find_shown_command() -> str:
    """Find the running command for a page: as it was typed, without the place of its folder.

    Returns:
        One line.
    """
    return shlex.join(word for word in find_command_line() if not word.startswith(("hydra.", "output=")))


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
    script = CHECKOUT / "src" / f"{task}.py"
    if not script.is_file():
        return ["seewhy", task]
    beside = Path(program[-1]).with_name(f"{task}.py")  # the script of another task, from wherever it was typed
    here = Path.cwd() == CHECKOUT
    is_script = Path(os.path.realpath(program[-1])).parent == script.parent
    return [program[0], str(beside if is_script else script.relative_to(CHECKOUT) if here else script)]


def _find_program() -> list[str]:
    """Find what is typed for `sys.argv[0]`."""
    path = Path(sys.argv[0])
    python = Path(sys.executable).name
    if path.parts[-2:] == ("seewhy", "__main__.py"):
        return [python, "-m", "seewhy"]
    return ["seewhy"] if path.stem == "seewhy" else [python, sys.argv[0]]


MESSAGES = (
    # Lightning advises more workers; the data here is small or read in the main process on purpose
    r".*does not have many workers.*",
    # Lightning on accelerators that are there but were not asked for
    r".*available but not used.*",
    # Lightning on a machine where Slurm is installed; a process on its own is what was asked for
    r".*`srun` command is available.*",
    # a schedule is created before the first optimiser step: Lightning's order of calls
    r".*lr_scheduler\.step\(\).*",
    # fewer batches than log_every_n_steps in a short run
    r".*The number of training batches.*is smaller than the logging interval.*",
    # the run folder exists because the run's record is already in it
    r".*Checkpoint directory .* exists and is not empty.*",
    # a resumed run logs everything again
    r".*Experiment logs directory .* exists and is not empty.*",
    # torch probes for GPUs through a library that is missing without a driver
    r".*(CUDA initialization|Can't initialize NVML).*",
    # RichProgressBar creates its display before the loop is known
    r".*isinstance\(treespec, LeafSpec\).*",
)


def list_overrides(hydra: Any, kind: str = "task") -> list[str]:
    """List the overrides of a command as they were typed: what they refer to is no part of Hydra's own config.

    Args:
        hydra: Hydra's part of the composed config.
        kind: `task`, or `hydra` for those of Hydra itself.

    Returns:
        The overrides, with their references.
    """
    listed: Any = OmegaConf.to_container(hydra.overrides, resolve=False)
    return [str(override) for override in listed[kind]]


def quieten() -> None:
    """Filter warnings and loggers of torch, Lightning, Albumentations and matplotlib; called before they are imported."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a home that cannot be written to needs no advice
