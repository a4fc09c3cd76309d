"""Representer points of the images of a loop, and what a run keeps of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.classifier import Classifier
from seewhy.data.training_set import TrainingSet
from seewhy.drawing import Drawing
from seewhy.errors import UserError
from seewhy.explain_batch import predictions
from seewhy.explanation import Prediction
from seewhy.representers import tables
from seewhy.representers.figures import consistency_figure, importance_figure, point_figure
from seewhy.representers.points import RepresenterPoints, representer_points
from seewhy.run_folder import RunFolder
from seewhy.targets import UNKNOWN, choose_targets
from seewhy.types import Batch


@dataclass(frozen=True)
class Report:
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
        rows = tables.point_rows(self.points, self.names, self.targets, self.classes)
        folder.write_csv("representers.csv", tables.POINTS, rows)
        folder.write_csv("importance.csv", tables.IMPORTANCE, tables.importance_rows(self.points, self.classes))
        folder.write_csv("consistency.csv", tables.CONSISTENCY, tables.consistency_rows(self.points, self.names))

    def figures(self, pictures: int) -> Iterator[tuple[str, Drawing]]:
        """(name, figure): the most influential training images, class consistency, the first test images."""
        yield "importance", importance_figure(self.points, self.data, self.classes)
        if bool((self.labels != UNKNOWN).any()):
            yield "consistency", consistency_figure(self.points, self.labels, self.classes)
        for row, name in enumerate(self.names[:pictures]):
            target = self.classes[int(self.targets[row])]
            shown = self.points, self.data, row, self.images[row], name, self.said[row], target, self.classes
            yield f"points_{name}", point_figure(*shown)


def report(
    classifier: Classifier,
    data: TrainingSet,
    batches: Sequence[Batch],
    logits: Sequence[Tensor],
    policy: str | int,
    **options: Any,
) -> Report:
    """The representer points of the images of all batches; `options` are those of `representer_points`."""
    start, classes = time.perf_counter(), classifier.facts.classes
    images, labels = torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])
    targets = choose_targets(policy, torch.cat(list(logits)), labels, classes)
    known = (targets != UNKNOWN).nonzero().flatten()
    if not len(known):
        raise UserError(f"target={policy}: the true class of every test image is unknown; set target=predicted")
    said = [one for batch, part in zip(batches, logits, strict=True) for one in predictions(classifier, batch, part)]
    names = [name for batch in batches for name in batch.names]
    images, targets, labels = images[known], targets[known], labels[known]
    points = representer_points(classifier, data, images, targets, labels, **options)
    chosen = known.tolist()
    kept = [names[row] for row in chosen], targets.cpu(), labels.cpu(), [said[row] for row in chosen]
    return Report(points, data, images, *kept, classes, time.perf_counter() - start)
