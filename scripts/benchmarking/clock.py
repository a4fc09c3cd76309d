"""Seconds of calls that are made in turn, and what they spread over."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of repeated measurements."""

    median: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of some measurements."""
        return cls(statistics.median(values), min(values), max(values))

    def words(self, digits: int = 2) -> str:
        """Median and range, such as `1.05 (1.02 – 1.11)`."""
        return f"{self.median:.{digits}f} ({self.smallest:.{digits}f} – {self.largest:.{digits}f})"


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until its device is done."""
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def in_turn(
    calls: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, warm: bool = True
) -> dict[str, list[float]]:
    """Seconds of each call in each of the repeats: A B A B, so that a busy moment of the machine hits all of them."""
    if warm:
        for call in calls.values():
            call()
    measured: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            measured[name].append(seconds(call, device))
    return measured


def ratio(first: Sequence[float], second: Sequence[float]) -> Spread:
    """first / second, turn by turn."""
    return Spread.of([one / other for one, other in zip(first, second, strict=True)])
