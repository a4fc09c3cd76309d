"""Passes of integrated gradients to a completeness gap of 1 %: adaptive beside fixed numbers of steps."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from benchmarking.clock import in_turn, ratio
from benchmarking.peers.captum_methods import call, mine, total
from benchmarking.row import Row
from benchmarking.subject import Subject
from seewhy.explainers.integrated_gradients import IntegratedGradients

GRID = (10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 600)
TOLERANCE = 0.01


def adaptive_rows(subject: Subject, best: int, most: int = 1000) -> Iterator[Row]:
    """The mean number of steps with `n_steps=auto`, and its share of the smallest fixed number that is enough for all.

    Where there is such a number, Captum's time with it (the same nodes, in batches of `best`) beside that of `auto`.
    """
    given = subject.classifier, subject.images, subject.targets
    automatic = IntegratedGradients(n_steps="auto", tolerance=TOLERANCE, max_steps=most)
    facts = automatic.attribute(*given).facts
    used = float(facts["n_steps"].float().mean())
    reached = float((facts["completeness_gap_relative"].abs() <= TOLERANCE).float().mean())
    enough = next((steps for steps in GRID if steps <= most and _reaches(subject, steps)), None)
    words = f"{enough} fixed steps" if enough else f"no fixed number up to {most} reaches it"
    yield Row(
        part="adaptive",
        model=subject.classifier.name,
        name="integrated_gradients",
        setting=f"n_steps=auto, {used:.0f} steps on average",
        images=len(subject.images),
        ratio=used / (enough or most),
        note=f"{100 * reached:.0f} % of the images reach it; {words}",
    )
    if enough and importlib.util.find_spec("captum"):
        yield _beside_captum(subject, automatic, enough, best)


def _beside_captum(subject: Subject, automatic: IntegratedGradients, steps: int, best: int) -> Row:
    options = {"n_steps": steps, "baselines": 0.0, "internal_batch_size": best}
    theirs = call(lambda attr, s: attr.IntegratedGradients(s.plain), total, **options)
    calls = {"ours": lambda: mine(automatic)(subject), "theirs": lambda: theirs(subject)}
    measured = in_turn(calls, 1, subject.device, warm=False)
    return Row(
        part="peer",
        model=subject.classifier.name,
        name="integrated_gradients",
        setting=f"captum: IntegratedGradients to 1 %, n_steps={steps}, internal_batch_size={best}",
        images=len(subject.images),
        seconds=measured["ours"][0] / len(subject.images),
        ratio=ratio(measured["theirs"], measured["ours"]).median,
        note="ours n_steps=auto: every image within 1 % with both, with as few steps as that takes",
    )


def _reaches(subject: Subject, steps: int) -> bool:
    given = subject.classifier, subject.images, subject.targets
    gaps = IntegratedGradients(n_steps=steps).attribute(*given).facts["completeness_gap_relative"]
    return bool((gaps.abs() <= TOLERANCE).all())
