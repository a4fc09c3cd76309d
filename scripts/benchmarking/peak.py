"""The peak of the memory of this process since the last reset, or of a device's allocator."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import torch


def reset(device: torch.device) -> None:
    """Begin anew, where the system can (Linux: the high-water mark of /proc; CUDA: the allocator's)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def megabytes(device: torch.device) -> float:
    """The peak in MB (Linux: of this program alone; `getrusage` also knows what started it)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.is_file() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
