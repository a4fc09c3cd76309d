"""Every attribution method beside its floor."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from benchmarking.floor import work
from benchmarking.over_floor import counted, over_floor
from benchmarking.place import ROOT
from benchmarking.row import Row, spread_cells
from benchmarking.subject import Subject, explainer_named
from seewhy.core.errors import Incompatible, UserError
from seewhy.explainers.base import Explainer

NAMES = tuple(sorted(path.stem for path in (ROOT / "configs" / "explainer").glob("*.yaml")))
QUICK_NAMES = (
    "saliency integrated_gradients smooth_grad gradient_shap guided_backprop deep_lift lrp grad_cam occlusion rise lime"
).split()
"""One of each kind, for a look in minutes."""
CHEAP = {"n_masks": 400, "n_samples": 20, "n_steps": 50, "channels": 64}
"""Settings that only decide the number of passes, cut down so that a method takes seconds."""
QUICK = {"n_masks": 48, "n_samples": 4, "n_steps": 12, "channels": 16}
ONCE = {"lime": {"n_samples": 300}, "kernel_shap": {"n_samples": 300}}
"""Methods that cut an image into regions once: as many passes as make that small beside them, as in real use."""


NESTED = {"n_samples": 4, "n_steps": 10}
"""Noisy copies of a method that has steps itself: the product of both is what counts."""
IN_TURN = {"guided_ig": {"n_steps": 8}}
"""Methods whose steps wait for each other: few steps of many images, so that their passes are as full as in real use."""


def cheap(explainer: Explainer, quick: bool, nested: bool = False) -> Explainer:
    """The explainer with fewer passes; the costs per pass stay the same."""
    most = (QUICK if quick else CHEAP) | IN_TURN.get(explainer.name, {})
    most |= {} if quick else ONCE.get(explainer.name, {})
    most |= NESTED if nested or hasattr(explainer, "explainer") else {}
    changed: dict[str, Any] = {
        key: min(getattr(explainer, key), count)
        for key, count in most.items()
        if isinstance(getattr(explainer, key, None), int)
    }
    if isinstance(options := getattr(explainer, "options", None), Mapping):  # Captum's own settings
        changed["options"] = {
            key: min(value, most[key]) if key in most and isinstance(value, int) else value
            for key, value in options.items()
        }
    if hasattr(explainer, "channels"):
        changed["channels"] = most["channels"]
    if hasattr(explainer, "incremental"):
        changed["incremental"] = False  # full passes, which have a floor
    if hasattr(explainer, "explainer"):
        changed["explainer"] = cheap(explainer.explainer, quick, nested=True)
    for key, value in changed.items():
        with suppress(UserError):  # a setting that is not read beside the others
            explainer = dataclasses.replace(explainer, **{key: value})
    return explainer


def images_for(explainer: Explainer, subject: Subject, budget: int) -> int:
    """As many images as `budget` passes allow, from two to all; passes that nobody knows are counted on one image."""
    classifier, classes = subject.classifier, len(subject.classifier.facts.classes)
    passes = explainer.passes_per_image(size=subject.images.shape[-1], classes=classes)
    if passes is None:
        with suppress(Incompatible):  # refused again, with its reason, where it is timed
            spent = counted(classifier, lambda: explainer(classifier, subject.images[:1], subject.targets[:1]), 1)
            passes = (spent.forward, spent.backward)
    if passes is None or not sum(passes):
        return len(subject.images)
    return max(2, min(len(subject.images), budget // sum(passes)))


def method_rows(
    subject: Subject, names: Sequence[str], sizes: tuple[int, int], repeats: int, quick: bool
) -> Iterator[Row]:
    """A row for each method that the network allows."""
    for name in names:
        explainer = cheap(explainer_named(name), quick)
        part = subject.first(images_for(explainer, subject, 32 if quick else 200))
        yield timed(part, name, explainer, sizes, repeats, rounds=1 if quick else 3)


def timed(
    subject: Subject, name: str, explainer: Explainer, sizes: tuple[int, int], repeats: int, rounds: int = 3
) -> Row:
    """Seconds and passes for each image, and their ratio to the floor."""
    classifier, images, targets = subject.classifier, subject.images, subject.targets
    common: dict[str, Any] = {"part": "method", "model": classifier.name, "name": name, "images": len(images)}
    try:
        multiple = work(classifier, images[:1], lambda: explainer(classifier, images[:1], targets[:1]))
    except Incompatible as refused:
        return Row(**common, note=f"refused: {str(refused).split(';')[0][:120]}")
    found = over_floor(classifier, images, lambda: explainer(classifier, images, targets), sizes, repeats, rounds)
    return Row(
        **common,
        setting=explainer.parameters,
        seconds=found.seconds.median,
        forward=found.passes.forward,
        backward=found.passes.backward,
        work=multiple,
        note=f"computes {multiple:.2f} x its passes" if multiple and multiple > 1.03 else "",
        **spread_cells(found.ratio),
    )
