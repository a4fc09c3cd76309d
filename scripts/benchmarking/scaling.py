"""Time and memory against images, steps, windows, noise samples and probe batch size, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarking import peak
from benchmarking.clock import Spread, seconds
from benchmarking.place import ROOT
from benchmarking.row import Row
from benchmarking.subject import Subject, build, explainer_named

AXES: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "images": ("saliency", "", (1, 3, 10, 30, 100, 300, 1000)),
    "steps": ("integrated_gradients", "n_steps", (10, 50, 100, 200, 400)),
    "noise samples": ("smooth_grad", "n_samples", (10, 50, 100, 200, 400)),
    "windows": ("occlusion", "stride", (8, 4, 3, 2, 1)),
    "probe batch size": ("smooth_grad", "probe_batch_size", (1, 2, 4, 8, 16, 32)),
}
"""Axis: method, the field that is changed, its values."""
IN_QUICK = ("images", "steps")
MODEL = "cifar_cnn"
"""Small, so that what is not the network shows."""


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


def scaling_rows(device: str, quick: bool, threads: int | None = None) -> Iterator[Row]:
    """A row for each point, measured where nothing else was loaded before."""
    command = [sys.executable, "-m", "benchmarking.scaling", json.dumps([device, quick, threads])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "scripts")
    for axis, method, amount, spent, highest in json.loads(done.stdout.splitlines()[-1]):
        yield Row(
            "scaling", MODEL, method, f"{axis}={amount}", seconds=spent, megabytes=highest, note="seconds in all"
        )  # fmt: skip


def lines_of(rows: Sequence[Row]) -> list[Line]:
    """The lines whose points are among the rows."""
    points: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.part == "scaling":
            points.setdefault((row.setting.partition("=")[0], row.name), []).append(row)
    return [
        Line(
            axis,
            method,
            [int(row.setting.partition("=")[2]) for row in line],
            [row.seconds or 0.0 for row in line],
            [row.megabytes or 0.0 for row in line],
        )
        for (axis, method), line in points.items()
    ]


def measured(subject: Subject, quick: bool, most_images: int = 1000) -> Iterator[tuple[str, str, int, float, float]]:
    """(axis, method, amount, seconds, peak in MB) of each point of each axis."""
    for axis, (method, field, values) in AXES.items():
        if quick and axis not in IN_QUICK:
            continue
        for value in values[:: 3 if quick else 1]:
            if axis == "images" and value > most_images:
                continue
            part = _repeated(subject, value) if axis == "images" else subject.first(2)
            overrides = [f"explainer.{field}={value}"] if field else []
            fixed = [] if axis == "probe batch size" else ["probe_batch_size=16"]
            fixed += ["explainer.window=8"] if axis == "windows" else []
            explainer = explainer_named(method, *fixed, *overrides)
            yield (axis, method, _windows(subject, value) if axis == "windows" else value, *_measured(part, explainer))


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


def main(device: str, quick: bool, threads: int | None) -> None:
    """The body of such a process: prints its points."""
    if threads:
        torch.set_num_threads(threads)
    print(json.dumps(list(measured(build(MODEL, 16, device), quick))))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    main(*json.loads(sys.argv[1]))
