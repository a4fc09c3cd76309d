"""The frame of every command: a page for --help, and one message for what Hydra cannot compose.

Silence for messages of libraries that a user cannot act on; everything else stays visible.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path

from hydra.errors import HydraException

from seewhy.cli import help
from seewhy.cli.config import CONFIGS
from seewhy.cli.suggestions import explain_mistake

FULL = "HYDRA_FULL_ERROR"


def command(start: Callable[[], None]) -> Callable[[], None]:
    """`start`, decorated with `hydra.main`: a typo ends as one message with the nearest names and exit code 2.

    With HYDRA_FULL_ERROR=1 in the environment errors are shown as they are.
    """

    @functools.wraps(start)
    def started() -> None:
        help.register()
        if FULL in os.environ:
            return start()
        os.environ[FULL] = "1"  # Hydra then hands its errors on instead of printing them
        try:
            start()
        except HydraException as error:
            mistake = explain_mistake(error, CONFIGS, Path(sys.argv[0]).stem)
            print(wrapped(f"error: {mistake}"), file=sys.stderr)
            raise SystemExit(2) from None
        finally:
            del os.environ[FULL]

    return started


def wrapped(message: str) -> str:
    """Each line folded to the terminal, with what is folded indented."""
    width = max(40, min(100, shutil.get_terminal_size().columns))
    fold = functools.partial(textwrap.fill, width=width, break_on_hyphens=False, break_long_words=False)
    return "\n".join(fold(line, subsequent_indent=" " * 4) for line in message.split("\n"))


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
    # torch probes for GPUs through a library that is missing without a driver
    r".*(CUDA initialization|Can't initialize NVML).*",
    # RichProgressBar creates its display before the loop is known
    r".*isinstance\(treespec, LeafSpec\).*",
)


def quieten() -> None:
    """Install the filters; called before heavy imports."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
