"""Several processes of one run."""

from __future__ import annotations

import os


def is_first_process() -> bool:
    """Whether this process writes what belongs to the whole run: the others of a `trainer=ddp` do not.

    Known from what launchers set, before anything that talks between processes is imported.
    """
    names = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)
