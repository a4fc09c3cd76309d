"""Representer points as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from seewhy.representers.points import RepresenterPoints
from seewhy.types import Targets

POINTS = ("image", "target", "sign", "rank", "training_image", "training_class", "value", "coefficient")
IMPORTANCE = ("rank", "training_image", "class", "importance", "predicted", "probability")
CONSISTENCY = ("image", "input", "feature")


def point_rows(
    points: RepresenterPoints, names: Sequence[str], targets: Targets, classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Each test image's strongest training images, excitatory ones first."""
    training, alpha = points.training, points.fit.coefficients
    for row, (name, target) in enumerate(zip(names, targets.tolist(), strict=True)):
        for sign, top, turn in (
            ("excitatory", points.strongest.excitatory, 1),
            ("inhibitory", points.strongest.inhibitory, -1),
        ):
            pairs = zip(top.columns[row].tolist(), top.values[row].tolist(), strict=True)
            for rank, (position, value) in enumerate(pairs, 1):
                cells = name, classes[target], sign, rank, training.names[position]
                label = classes[int(training.labels[position])]
                numbers = f"{turn * value:.8g}", f"{float(alpha[position, target]):.8g}"
                yield dict(zip(POINTS, (*cells, label, *numbers), strict=True))


def importance_rows(points: RepresenterPoints, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """All training images, the one whose label fits least first."""
    training = points.training
    probability, predicted = training.probabilities.max(1)
    for rank, position in enumerate(points.importance.argsort(descending=True, stable=True).tolist(), 1):
        cells = rank, training.names[position], classes[int(training.labels[position])]
        numbers = f"{float(points.importance[position]):.8g}", classes[int(predicted[position])]
        yield dict(zip(IMPORTANCE, (*cells, *numbers, f"{float(probability[position]):.4f}"), strict=True))


def consistency_rows(points: RepresenterPoints, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The class consistency of each test image in both spaces; empty where its class is unknown."""
    for row, name in enumerate(names):
        shares = [float(points.consistency[space][row]) for space in ("input", "feature")]
        yield dict(zip(CONSISTENCY, (name, *("" if share != share else f"{share:g}" for share in shares)), strict=True))
