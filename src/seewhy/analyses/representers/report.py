"""Representer points of the images of a loop, and what a run keeps of them.

Representer points as rows of a table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.analyses.representers.figures import draw_consistency_figure, draw_importance_figure, draw_point_figure
from seewhy.analyses.representers.points import RepresenterPoints, compute_representer_points
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.targets import UNKNOWN, choose_targets
from seewhy.core.types import Batch, Classes, Prediction
from seewhy.data.loading import TrainingSet
from seewhy.explainers.batch import build_predictions
from seewhy.models.classifier import Classifier
from seewhy.plots.canvas import Drawing


@dataclass(frozen=True)
class RepresenterReport:
    """The points of the test images that have a target, in the order of the loop."""

    points: RepresenterPoints
    data: TrainingSet
    images: Tensor
    names: list[str]
    targets: Tensor
    labels: Tensor
    said: list[Prediction]
    classes: Sequence[str]
    seconds: float

    def facts(self) -> dict[str, Any]:
        """What the run's record says."""
        return self.points.facts() | {"test_images": len(self.names), "seconds": round(self.seconds, 3)}

    def write(self, folder: RunFolder) -> None:
        """The three tables."""
        rows = build_point_rows(self.points, self.names, self.targets, self.classes)
        folder.write_csv("representers.csv", POINTS, rows)
        folder.write_csv("importance.csv", IMPORTANCE, build_importance_rows(self.points, self.classes))
        folder.write_csv("consistency.csv", CONSISTENCY, build_consistency_rows(self.points, self.names))

    def figures(self, pictures: int) -> Iterator[tuple[str, Drawing]]:
        """(name, figure): the most influential training images, class consistency, the first test images."""
        yield "importance", draw_importance_figure(self.points, self.data, self.classes)
        if bool((self.labels != UNKNOWN).any()):
            yield "consistency", draw_consistency_figure(self.points, self.labels, self.classes)
        for row, name in enumerate(self.names[:pictures]):
            target = self.classes[int(self.targets[row])]
            arguments = self.points, self.data, row, self.images[row], name, self.said[row], target, self.classes
            yield f"points_{name}", draw_point_figure(*arguments)


def build_report(
    classifier: Classifier,
    data: TrainingSet,
    batches: Sequence[Batch],
    logits: Sequence[Tensor],
    policy: str | int,
    **options: Any,
) -> RepresenterReport:
    """The representer points of the images of all batches; `options` are those of `representer_points`."""
    start, classes = time.perf_counter(), classifier.facts.classes
    images, labels = torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])
    targets = choose_targets(policy, torch.cat(list(logits)), labels, classes)
    targeted = (targets != UNKNOWN).nonzero().flatten()
    if not len(targeted):
        raise UserError(f"target={policy}: the true class of every test image is unknown; set target=predicted")
    predictions = [
        prediction
        for batch, batch_logits in zip(batches, logits, strict=True)
        for prediction in build_predictions(classifier, batch, batch_logits)
    ]
    names = [name for batch in batches for name in batch.names]
    images, targets, labels = images[targeted], targets[targeted], labels[targeted]
    points = compute_representer_points(classifier, data, images, targets, labels, **options)
    rows = targeted.tolist()
    selected = [names[row] for row in rows], targets.cpu(), labels.cpu(), [predictions[row] for row in rows]
    return RepresenterReport(points, data, images, *selected, classes, time.perf_counter() - start)


POINTS = ("image", "target", "sign", "rank", "training_image", "training_class", "value", "coefficient")
IMPORTANCE = ("rank", "training_image", "class", "importance", "predicted", "probability")
CONSISTENCY = ("image", "input", "feature")


def build_point_rows(
    points: RepresenterPoints, names: Sequence[str], targets: Classes, classes: Sequence[str]
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


def build_importance_rows(points: RepresenterPoints, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """All training images, the one whose label fits least first."""
    training = points.training
    probability, predicted = training.probabilities.max(1)
    for rank, position in enumerate(points.importance.argsort(descending=True, stable=True).tolist(), 1):
        cells = rank, training.names[position], classes[int(training.labels[position])]
        numbers = f"{float(points.importance[position]):.8g}", classes[int(predicted[position])]
        yield dict(zip(IMPORTANCE, (*cells, *numbers, f"{float(probability[position]):.4f}"), strict=True))


def build_consistency_rows(points: RepresenterPoints, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The class consistency of each test image in both spaces; empty where its class is unknown."""
    for row, name in enumerate(names):
        shares = [float(points.consistency[space][row]) for space in ("input", "feature")]
        yield dict(zip(CONSISTENCY, (name, *("" if share != share else f"{share:g}" for share in shares)), strict=True))
