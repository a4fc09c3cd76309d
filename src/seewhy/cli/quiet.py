"""Silence messages of libraries that a user cannot act on; everything else stays visible."""

from __future__ import annotations

import logging
import os
import warnings

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


def quieten() -> None:
    """Filter warnings and loggers of torch, Lightning, Albumentations and matplotlib; called before they are imported."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
