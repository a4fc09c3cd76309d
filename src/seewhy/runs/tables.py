"""The tables that every run leaves, and counts and sums over its finished batches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from seewhy.core.files import RunFolder
from seewhy.core.types import Explanation, Prediction
from seewhy.models.classifier import Passes
from seewhy.runs.batch_results import BatchResults, ImageResult
from seewhy.runs.journal import Journal

PREDICTIONS: tuple[str, ...] = (
    *("image", "path", "label", "predicted", "probability", "correct"),
    *("target", "target_probability", "target_policy"),
    *(f"top{rank}" for rank in range(1, 6)),
)
METRICS = ("image", "explainer", "parameters", "target", "target_policy", "metric", "value")
SKIPPED = ("path", "reason")
LABELS = ("label", "images", "true", "predicted", "both", "accuracy")
YES_NO = {None: "", True: "yes", False: "no"}


def write_tables(folder: RunFolder, journal: Journal) -> None:
    """Write the tables, each whole or not at all: predictions, metrics, skipped and, of several labels an image, labels.

    Args:
        folder: Where they are written.
        journal: What they are made from; it is read once, one batch in memory at a time.
    """
    labels = LabelCounts()
    with (
        folder.writing_csv("predictions.csv", PREDICTIONS) as predictions,
        folder.writing_csv("metrics.csv", METRICS) as metrics,
        folder.writing_csv("skipped.csv", SKIPPED) as skipped,
    ):
        for results in journal.read_batches():
            for image in results.images:
                labels.add(image.prediction)
                for row in _list_rows(image):
                    predictions.add(row)
                for explanation in image.explanations:
                    for row in _list_values(explanation):
                        metrics.add(row)
            for entry in results.skipped:
                skipped.add(entry._asdict())
    if labels.images:
        folder.write_csv("labels.csv", LABELS, labels.list_rows())


class LabelCounts:
    """How often each label of several is true of an image, predicted, and both."""

    def __init__(self) -> None:
        self.images = 0
        self.true, self.predicted, self.both = Counter[str](), Counter[str](), Counter[str]()

    def add(self, prediction: Prediction) -> None:
        """Count an image; one whose classes exclude each other does not count.

        Args:
            prediction: Of the image.
        """
        if prediction.true_labels is not None and prediction.labels is not None:
            self.images += 1
            self.true.update(prediction.true_labels)
            self.predicted.update(prediction.labels)
            self.both.update(set(prediction.true_labels) & set(prediction.labels))

    def list_rows(self) -> Iterator[dict[str, Any]]:
        """List the labels by name.

        Yields:
            A row for each label that is true of an image or predicted; accuracy is the share of the images with labels of
            which it is told right.
        """
        for label in sorted({*self.true, *self.predicted}):
            true, predicted, both = self.true[label], self.predicted[label], self.both[label]
            accuracy = f"{1 - (true + predicted - 2 * both) / self.images:.6f}"
            counts = {"images": self.images, "true": true, "predicted": predicted, "both": both}
            yield {"label": label, **counts, "accuracy": accuracy}


def _list_rows(image: ImageResult) -> Iterator[dict[str, Any]]:
    """A row for each target of an image, or one where nothing of it is explained."""
    for explanation in image.explanations or (None,):
        yield _describe_image(image, explanation)


def _describe_image(image: ImageResult, explanation: Explanation | None) -> dict[str, Any]:
    prediction = image.prediction
    row = {
        "image": image.name if explanation is None else explanation.name,
        "path": image.path,
        "label": prediction.label,
        "predicted": prediction.name,
    }
    row |= {"probability": _format_probability(prediction.probability), "correct": YES_NO[prediction.correct]}
    row |= {f"top{rank}": f"{name} {probability:.4f}" for rank, (name, probability) in enumerate(prediction.top, 1)}
    if explanation is not None:
        target = explanation.target
        row |= {"target": target.name, "target_policy": target.policy}
        row["target_probability"] = _format_probability(target.probability)
    return row


def _format_probability(probability: float) -> str:
    """Six decimals; an empty cell where the outputs are no probabilities."""
    return "" if probability != probability else f"{probability:.6f}"


def _list_values(explanation: Explanation) -> Iterator[dict[str, Any]]:
    names = {
        "image": explanation.name,
        "explainer": explanation.explainer,
        "parameters": explanation.parameters,
        "target": explanation.target.name,
        "target_policy": explanation.target.policy,
    }
    for metric, value in {**explanation.facts, **explanation.metrics}.items():
        yield names | {"metric": metric, "value": repr(value)}


@dataclass
class Totals:
    """Counts and sums over the journal.

    Attributes:
        images: That were read.
        explained: Explanations, one for each image and target.
        explained_images: Images with an explanation.
        skipped: That could not be read or explained.
        warned: Whose map carries a warning.
        labelled: Whose true class the classifier knows.
        correct: Of the labelled, classified correctly.
        foreign: Images whose label is no class of the classifier.
        foreign_label: The first of their labels.
        label_accuracies: Of each labelled image that may have several labels, the share of labels told right.
        losses: Of each labelled image.
        passes: By stage of the work: attribution, metrics.
        seconds: By stage of the work.
        left_out: Metrics that need what the data lack.
        batch_sizes: The measured bounds on the images in one pass, by the kind of pass; several where batches differ.
    """

    images: int = 0
    explained: int = 0
    explained_images: int = 0
    skipped: int = 0
    warned: int = 0
    labelled: int = 0
    correct: int = 0
    foreign: int = 0
    foreign_label: str = ""
    label_accuracies: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    passes: dict[str, Passes] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    batch_sizes: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, journal: Journal) -> Totals:
        """Add up a journal.

        Args:
            journal: It is read once, one batch in memory at a time.

        Returns:
            The sums over its finished batches.
        """
        totals = cls()
        for results in journal.read_batches():
            totals._add(results)
        return totals

    def _add(self, results: BatchResults) -> None:
        explanations = results.explanations
        verdicts = [image.prediction.correct for image in results.images if image.prediction.correct is not None]
        self.images += len(results.images)
        self.skipped += len(results.skipped)
        self.explained += len(explanations)
        self.explained_images += sum(bool(image.explanations) for image in results.images)
        self.warned += sum(bool(explanation.warnings) for explanation in explanations)
        self.labelled += len(verdicts)
        self.correct += sum(verdicts)
        predictions = [image.prediction for image in results.images]  # without probabilities no label was looked up
        foreign = [each.label for each in predictions if each.label and each.correct is None and each.probability >= 0]
        self.foreign += len(foreign)
        self.foreign_label = self.foreign_label or next(iter(foreign), "")
        shares = [image.prediction.label_accuracy for image in results.images]
        self.label_accuracies += [share for share in shares if share is not None]
        self.losses += [image.loss for image in results.images if image.loss is not None]
        for stage, cost in results.costs.items():
            passes = self.passes.setdefault(stage, Passes())
            passes.forward, passes.backward = passes.forward + cost.forward, passes.backward + cost.backward
            self.seconds[stage] = self.seconds.get(stage, 0.0) + cost.seconds
        self.left_out += [name for name in results.left_out if name not in self.left_out]
        for kind, size in results.batch_sizes.items():
            self.batch_sizes[kind] = sorted({*self.batch_sizes.get(kind, ()), size})

    def average_losses(self) -> dict[str, float]:
        """Average what training logs too.

        Returns:
            test/loss and test/accuracy over the labelled images, and test/label_accuracy where images may have several
            labels; empty without any.
        """
        if not self.losses:
            return {}
        averages = {
            "test/loss": math.fsum(self.losses) / len(self.losses),
            "test/accuracy": self.correct / self.labelled,
        }
        if self.label_accuracies:
            averages["test/label_accuracy"] = math.fsum(self.label_accuracies) / len(self.label_accuracies)
        return averages

    def describe_images(self) -> dict[str, Any]:
        """Describe the images for the record of the run.

        Returns:
            How many were read and skipped, and the batch sizes that were measured for them.
        """
        sizes = {"probe_batch_sizes": self.batch_sizes} if self.batch_sizes else {}
        return {"images": self.images, "images_skipped": self.skipped, **sizes}

    def describe_attributions(self) -> dict[str, Any]:
        """Describe the work on the maps for the record of the run.

        Returns:
            Images, passes per image and seconds.
        """
        images = max(self.explained_images, 1)
        return {
            "images_explained": self.explained_images,
            "passes_per_image": {way: passes / images for way, passes in self._count_passes("attribution").items()},
            "attribution_seconds": round(self.seconds.get("attribution", 0.0), 3),
        }

    def describe_metrics(self) -> dict[str, Any]:
        """Describe the work on the metrics for the record of the run.

        Returns:
            Metrics that were left out, passes in all and seconds.
        """
        return {
            "metrics_left_out": self.left_out,
            "metric_passes": self._count_passes("metrics"),
            "metric_seconds": round(self.seconds.get("metrics", 0.0), 3),
        }

    def _count_passes(self, stage: str) -> dict[str, int]:
        passes = self.passes.get(stage, Passes())
        return {"forward": passes.forward, "backward": passes.backward}
