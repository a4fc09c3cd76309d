"""How many processes corrupt images while the network works."""

from __future__ import annotations

import os

from seewhy.errors import UserError


def worker_count(workers: int | str) -> int:
    """`workers`, or for `auto` half of this process's cores, from 1 to 8; 0 corrupts in the main process."""
    if workers == "auto":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(8, max(1, cores // 2))
    if not isinstance(workers, int) or workers < 0:
        raise UserError(f"callbacks.robustness.workers={workers} must be auto or a whole number from 0")
    return workers
