"""How images are loaded: the settings that every data module shares."""

from __future__ import annotations

from seewhy.errors import UserError


def check_loading(batch_size: int, num_workers: int) -> None:
    """UserError where a batch would hold nothing or the number of processes is negative."""
    if batch_size < 1:
        raise UserError(f"data.batch_size={batch_size} must be at least 1")
    if num_workers < 0:
        raise UserError(f"data.num_workers={num_workers} must be 0 (read in this process) or more")
