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


def read_clock(device: torch.device) -> float:
    """Seconds, once the device is done: of the wall, or of the processor where torch has one thread of it.

    Time of the processor leaves out what other programs had of it, so that one thread can be measured on a busy machine.
    """
    synchronise(device)
    return time.process_time() if counts_processor(device.type) else time.perf_counter()


def counts_processor(device: str) -> bool:
    """Whether seconds are those of the processor."""
    return device == "cpu" and torch.get_num_threads() == 1


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until its device is done."""
    start = read_clock(device)
    call()
    return read_clock(device) - start


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
