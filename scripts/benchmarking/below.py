"""Below the floor: occlusion that computes again only what a window can change, beside full forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from benchmarking.clock import Spread, in_turn, ratio
from benchmarking.peers.peer import difference
from benchmarking.row import DIFFER, Row
from benchmarking.subject import build
from seewhy.explainers.occlusion import Occlusion
from seewhy.models.batched import find_batch_size
from seewhy.models.classifier import Classifier

GOALS = {"vgg16": 3.0, "efficientnet_lite0": 2.0}
"""How many times as fast it should be."""
STRIDE = 15
"""Of windows of 15 pixels: 225 on an image of 224 pixels."""
TOLERANCE = 1e-4
"""Of the largest value of the map."""


def below_rows(device: str, quick: bool, repeats: int) -> Iterator[Row]:
    """A row for each network of the goals (quick: the small one, once); `ratio` is full over incremental."""
    for model in ("efficientnet_lite0",) if quick else GOALS:
        subject = build(model, 1, device, 224)
        full = Occlusion(window=15, stride=STRIDE, incremental=False)
        image = (subject.classifier, subject.images, subject.targets)
        calls = {"full": partial(full, *image), "incremental": partial(replace(full, incremental=True), *image)}

        def layers(call: Callable[[], object] = calls["full"], classifier: Classifier = subject.classifier) -> None:
            with classifier.folding.off():
                call()

        with subject.classifier.folding.off():
            find_batch_size(subject.classifier, subject.images[0], gradient=False)  # not a part of what is timed
        found = difference(calls["incremental"](), calls["full"](), False)
        measured = in_turn(
            {**calls, "layers": layers}, 1 if quick or model == "vgg16" else repeats, subject.device, warm=False
        )
        spread = ratio(measured["full"], measured["incremental"])
        yield Row(
            "below",
            model,
            "occlusion",
            f"window 15, stride {STRIDE}, 224 pixels",
            images=1,
            seconds=Spread.of(measured["incremental"]).median,
            ratio=spread.median,
            smallest=spread.smallest,
            largest=spread.largest,
            difference=found,
            note=(f"{DIFFER} by more than {TOLERANCE:g}" if found > TOLERANCE else f"values within {found:.0e}")
            + f"; beside full passes layer by layer {ratio(measured['layers'], measured['incremental']).words()}",
        )
