"""Passes of integrated gradients to a completeness gap of 1 %: adaptive beside fixed numbers of steps."""

from __future__ import annotations

from benchmarking.row import Row
from benchmarking.subject import Subject
from seewhy.explainers.integrated_gradients import IntegratedGradients

GRID = (10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 600, 1000)
TOLERANCE = 0.01


def adaptive_row(subject: Subject, most: int = 1000) -> Row:
    """The mean number of steps with `n_steps=auto`, and its share of the smallest fixed number that is enough for all."""
    given = subject.classifier, subject.images, subject.targets
    automatic = IntegratedGradients(n_steps="auto", tolerance=TOLERANCE, max_steps=most).attribute(*given)
    used = float(automatic.facts["n_steps"].float().mean())
    reached = float((automatic.facts["completeness_gap_relative"].abs() <= TOLERANCE).float().mean())
    enough = next((steps for steps in GRID if steps <= most and _reaches(subject, steps)), None)
    words = f"{enough} fixed steps" if enough else f"no fixed number up to {most} reaches it"
    return Row(
        part="adaptive",
        model=subject.classifier.name,
        name="integrated_gradients",
        setting=f"n_steps=auto, {used:.0f} steps on average",
        images=len(subject.images),
        ratio=used / (enough or most),
        note=f"{100 * reached:.0f} % of the images reach it; {words}",
    )


def _reaches(subject: Subject, steps: int) -> bool:
    given = subject.classifier, subject.images, subject.targets
    gaps = IntegratedGradients(n_steps=steps).attribute(*given).facts["completeness_gap_relative"]
    return bool((gaps.abs() <= TOLERANCE).all())
