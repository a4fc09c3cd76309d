"""Representer points of the images of a run, with their tables and figures."""

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
    """Representer points of the test images that have a target, in the order of the loop.

    Attributes:
        points: Representer values, fits and consistency.
        data: The training set, whose pictures the figures show.
        images: Test images, float32 [m, channels, height, width] in [0, 1].
        names: Names of the test images.
        targets: Explained class of each, int64 [m].
        labels: True class of each, int64 [m], -1 where it is unknown.
        predictions: What the classifier says of each.
        classes: Names of the classes.
        seconds: Time that the computation took.
    """

    points: RepresenterPoints
    data: TrainingSet
    images: Tensor
    names: list[str]
    targets: Tensor
    labels: Tensor
    predictions: list[Prediction]
    classes: Sequence[str]
    seconds: float

    def facts(self) -> dict[str, Any]:
        """Summarise the points for the run's record.

        Returns:
            Numbers by name: correlations, consistency, counts and seconds.
        """
        return self.points.facts() | {"test_images": len(self.names), "seconds": round(self.seconds, 3)}

    def write(self, folder: RunFolder) -> None:
        """Write representers.csv, importance.csv and consistency.csv.

        Args:
            folder: The run folder.
        """
        rows = build_point_rows(self.points, self.names, self.targets, self.classes)
        folder.write_csv("representers.csv", POINTS, rows)
        folder.write_csv("importance.csv", IMPORTANCE, build_importance_rows(self.points, self.classes))
        folder.write_csv("consistency.csv", CONSISTENCY, build_consistency_rows(self.points, self.names))

    def figures(self, pictures: int) -> Iterator[tuple[str, Drawing]]:
        """Draw the most influential training images, the class consistency and the points of the first test images.

        Args:
            pictures: How many test images get a figure.

        Yields:
            Pairs of name and figure, drawn one at a time.
        """
        yield "importance", draw_importance_figure(self.points, self.data, self.classes)
        if bool((self.labels != UNKNOWN).any()):
            yield "consistency", draw_consistency_figure(self.points, self.labels, self.classes)
        for row, name in enumerate(self.names[:pictures]):
            target = self.classes[int(self.targets[row])]
            arguments = self.points, self.data, row, self.images[row], name, self.predictions[row], target, self.classes
            yield f"points_{name}", draw_point_figure(*arguments)


def build_report(
    classifier: Classifier,
    data: TrainingSet,
    batches: Sequence[Batch],
    logits: Sequence[Tensor],
    policy: str | int,
    **options: Any,
) -> RepresenterReport:
    """Compute the representer points of the images of all batches.

    Args:
        classifier: The network that is explained; it is left as it was.
        data: Its training set.
        batches: The test images.
        logits: Outputs [n, classes] of each batch.
        policy: Which class of each image is explained, as in `target=`.
        **options: Further arguments of `compute_representer_points`.

    Returns:
        The report of the images that have a target.

    Raises:
        UserError: No image has a target, or the refitted layer does not stand for the network.
    """
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
