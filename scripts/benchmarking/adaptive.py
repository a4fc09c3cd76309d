"""Passes of integrated gradients to a completeness gap of 1 %: adaptive beside fixed numbers of steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarking.compare import peer_rows
from benchmarking.peers.captum_methods import LIBRARY, call, mine, total
from benchmarking.peers.peer import Peer
from benchmarking.row import Row
from benchmarking.subject import Subject
from seewhy.explainers.integrated_gradients import IntegratedGradients

GRID = (10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 600)
TOLERANCE = 0.01


def adaptive_rows(subject: Subject, best: int, most: int) -> Iterator[Row]:
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
    if enough:
        peer = _beside_captum(automatic, enough, best, len(subject.images))
        yield from (replace(row, part="adaptive") for row in peer_rows(subject, [peer], 1))


def _beside_captum(automatic: IntegratedGradients, steps: int, best: int, images: int) -> Peer:
    options = {"n_steps": steps, "baselines": 0.0, "internal_batch_size": best}
    return Peer(
        automatic.name,
        LIBRARY,
        f"IntegratedGradients to 1 %, n_steps={steps}, internal_batch_size={best}",
        mine(automatic),
        call(lambda attr, s: attr.IntegratedGradients(s.plain), total, **options),
        note="ours n_steps=auto: every image within 1 % with both, with as few steps as that takes",
        images=images,
    )


def _reaches(subject: Subject, steps: int) -> bool:
    given = subject.classifier, subject.images, subject.targets
    gaps = IntegratedGradients(n_steps=steps).attribute(*given).facts["completeness_gap_relative"]
    return bool((gaps.abs() <= TOLERANCE).all())
