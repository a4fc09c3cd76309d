"""Time and memory against images, steps, windows, noise samples and probe batch size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarking import peak
from benchmarking.clock import Spread, seconds
from benchmarking.row import Row
from benchmarking.subject import Subject, explainer_named

AXES: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "images": ("saliency", "", (1, 3, 10, 30, 100, 300, 1000)),
    "steps": ("integrated_gradients", "n_steps", (10, 50, 100, 200, 400)),
    "noise samples": ("smooth_grad", "n_samples", (10, 50, 100, 200, 400)),
    "windows": ("occlusion", "stride", (8, 4, 3, 2, 1)),
    "probe batch size": ("smooth_grad", "probe_batch_size", (1, 2, 4, 8, 16, 32)),
}
"""Axis: method, the field that is changed, its values."""
IN_QUICK = ("images", "steps")


@dataclass(frozen=True)
class Line:
    """Measurements along one axis: the amount, seconds and memory in MB of each point."""

    axis: str
    method: str
    amounts: list[int]
    seconds: list[float]
    megabytes: list[float]

    @property
    def slope(self) -> float:
        """Seconds for each unit of the amount."""
        return float(np.polyfit(self.amounts, self.seconds, 1)[0])

    @property
    def straightness(self) -> float:
        """R^2 of a straight line through the times."""
        fitted = np.polyval(np.polyfit(self.amounts, self.seconds, 1), self.amounts)
        spread = float(np.var(self.seconds))
        return 1 - float(np.mean((fitted - self.seconds) ** 2)) / spread if spread else 1.0

    @property
    def memory_ratio(self) -> float:
        """The largest over the smallest peak."""
        return max(self.megabytes) / min(self.megabytes)


def lines(subject: Subject, quick: bool, most_images: int = 1000) -> Iterator[Line]:
    """Each axis on a small network."""
    for axis, (method, field, values) in AXES.items():
        if quick and axis not in IN_QUICK:
            continue
        chosen = values[:: 3 if quick else 1]
        chosen = tuple(value for value in chosen if field or value <= most_images)
        amounts, times, peaks = [], [], []
        for value in chosen:
            part = _repeated(subject, value) if axis == "images" else subject.first(2)
            overrides = [f"explainer.{field}={value}"] if field else []
            fixed = [] if axis == "probe batch size" else ["probe_batch_size=16"]
            fixed += ["explainer.window=8"] if axis == "windows" else []
            explainer = explainer_named(method, *fixed, *overrides)
            spent, highest = _measured(part, explainer)
            amounts.append(_windows(subject, value) if axis == "windows" else value)
            times.append(spent)
            peaks.append(highest)
        yield Line(axis, method, amounts, times, peaks)


def _measured(part: Subject, explainer: Any) -> tuple[float, float]:
    def work() -> None:
        for images, targets in zip(part.images.split(32), part.targets.split(32), strict=True):
            explainer(part.classifier, images, targets)

    work()
    peak.reset(part.device)
    spent = Spread.of([seconds(work, part.device) for _ in range(3)]).median
    return spent, peak.megabytes(part.device)


def _repeated(subject: Subject, count: int) -> Subject:
    times = -(-count // len(subject.images))
    images, targets = subject.images.repeat(times, 1, 1, 1)[:count], subject.targets.repeat(times)[:count]
    return Subject(subject.classifier, images, targets, subject.layer)


def _windows(subject: Subject, stride: int) -> int:
    explainer = explainer_named("occlusion", "explainer.window=8", f"explainer.stride={stride}")
    passes = explainer.passes_per_image(size=subject.images.shape[-1], classes=1)
    return passes[0] if passes else 0


def rows(model: str, found: list[Line]) -> Iterator[Row]:
    """The points of the lines."""
    for line in found:
        for amount, spent, highest in zip(line.amounts, line.seconds, line.megabytes, strict=True):
            yield Row(
                "scaling",
                model,
                line.method,
                f"{line.axis}={amount}",
                seconds=spent,
                megabytes=highest,
                note="seconds in all",
            )
