"""The experts of every class of a data set, and what they are worth.

The experts of a class are the units with the largest influence on its score. They are worth how well the network still
tells the class from the rest when all other units are set to 0, beside as many units in random order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seewhy.core.errors import Incompatible
from seewhy.core.targets import UNKNOWN
from seewhy.core.tensors import widen
from seewhy.core.types import Batch, Images
from seewhy.explainers.influence.data_influence import DataInfluence, Slice, compute_data_influence
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier

RANKING_COLUMNS = ("class", "distribution", "rank", "unit", "influence", "images")
CURVE_COLUMNS = ("class", "units_kept", "order", "recall", "false_alarms")


class CurvePoint(NamedTuple):
    """One point of the curve of one class."""

    target: int
    """Index of the class."""
    units: int
    """Units that are left; all others are 0."""
    order: str
    """`experts` (largest influence first) or `random`, the control."""
    recall: float
    """Share of the images of the class that are still given to it, 0 to 1, higher is better."""
    false_alarms: float
    """Share of all other images that are given to it, 0 to 1, lower is better; NaN where there are none."""


class UpperNetwork:
    """g, the part of a network above a slice: output of the layer [n, ...] -> logits [n, classes].

    One image runs through the lower part for all n. Incompatible where the layer does not cut the network in two, so
    that something passes it by.
    """

    def __init__(self, classifier: Classifier, cut: Slice, images: Images, output: Tensor, logits: Tensor) -> None:
        self.classifier, self.cut, self.image = classifier, cut, torch.zeros_like(images[:1])
        if not torch.allclose(self(output), logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max())):
            raise Incompatible(
                f"the layer {cut.name} does not cut the network in two: something passes it by; set "
                "callbacks.experts.layer to a layer that everything goes through, such as the last pooling"
            )

    def __call__(self, output: Tensor) -> Tensor:
        """Logits, without gradients."""
        handle = self.cut.module.register_forward_hook(lambda module, arguments, own: output)
        try:
            with torch.no_grad():
                return widen(self.classifier.run_upper(self.image, len(output)))
        finally:
            handle.remove()


def list_unit_counts(units: int) -> list[int]:
    """1, 2, 4, ... and all units.

    >>> list_unit_counts(10)
    [1, 2, 4, 8, 10]
    """
    return [2**power for power in range(units.bit_length()) if 2**power < units] + [units]


def measure_curves(
    upper: UpperNetwork, output: Tensor, labels: Tensor, ranked: dict[int, Tensor], seed: int = 0, block: int = 1000
) -> Iterator[CurvePoint]:
    """Measure recall and false alarms of each class with only its first k units left, for k = 1, 2, 4, ...

    Args:
        upper: The network above the layer.
        output: Output of the layer for all images [n, ...].
        labels: int64 [n].
        ranked: For each class its units, best expert first.
        seed: Decides the random order that each class is compared with.
        block: Images in the upper network at once.

    Yields:
        The points of every class, in the order of the experts and then in random order.
    """
    size = (upper.image.shape[2], upper.image.shape[3])
    for target, order in ranked.items():
        chance = torch.randperm(len(order), generator=torch.Generator().manual_seed(seed + target))
        for name, units in (("experts", order), ("random", chance)):
            for count in list_unit_counts(len(order)):
                first = units[:count].to(output.device)
                predicted = torch.cat(
                    [upper(upper.cut.keep_units(chunk, first, size)).argmax(1) for chunk in output.split(block)]
                )
                accepted, own = predicted == target, labels == target
                yield CurvePoint(target, count, name, _average(accepted[own]), _average(accepted[~own]))


def average_curve(curve: Sequence[CurvePoint], order: str) -> list[tuple[int, float, float]]:
    """Average a curve over the classes.

    Args:
        curve: The points of all classes.
        order: `experts` or `random`.

    Returns:
        (units left, recall, false alarms) for each number of units.
    """
    rows = []
    for count in sorted({point.units for point in curve}):
        points = [(point.recall, point.false_alarms) for point in curve if (point.units, point.order) == (count, order)]
        recall, alarms = torch.tensor(points, dtype=torch.float64).nanmean(0).tolist()
        rows.append((count, recall, alarms))
    return rows


def _average(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else torch.nan


@dataclass(frozen=True)
class Survey:
    """The influence of every unit of a slice on every class, over a set of images."""

    classifier: Classifier
    """The network."""
    cut: Slice
    """The layer whose units are ranked."""
    influence: DataInfluence
    """Averages over the images of each class."""
    probe_batch_size: int | str
    """Bound on the images in the network at once, or `auto`."""

    @staticmethod
    def measure(
        classifier: Classifier,
        batches: Iterable[Batch],
        layer: str | None = None,
        reduction: str = "mean",
        probe_batch_size: int | str = "auto",
    ) -> Survey:
        """Measure the influences, with one pass over the images.

        Args:
            classifier: The network.
            batches: The images, with labels.
            layer: Name of the layer; None: the classifier's influence layer.
            reduction: `mean` or `max` over the positions of a channel.
            probe_batch_size: Bound on the images in the network at once, or `auto`.

        Returns:
            The survey.
        """
        cut = Slice(classifier, layer, reduction)
        return Survey(
            classifier, cut, compute_data_influence(classifier, cut, batches, probe_batch_size), probe_batch_size
        )

    def describe(self) -> dict[str, Any]:
        """Describe the survey for the run's record.

        Returns:
            Layer, reduction, weights, number of units and of images.
        """
        counts, units = self.influence.counts, self.influence.values.shape[2]
        return self.influence.origin | {"units": units, "influence_images": int(counts.sum())}

    def rank_units(self) -> dict[int, Tensor]:
        """Rank the units of each class by their influence over its own images.

        Returns:
            For each class with images its units, the largest influence first.
        """
        labels = [label for label in self.influence.present.tolist() if label != UNKNOWN]
        return {
            label: self.influence.average_class(label)[label].argsort(descending=True, stable=True) for label in labels
        }

    def list_ranking(self, count: int) -> Iterator[dict[str, Any]]:
        """List the top experts of each class, over its own images and over all, as rows of a table.

        Args:
            count: Experts of each class.

        Yields:
            Rows with the columns `RANKING_COLUMNS`.
        """
        dataset, names = self.influence.average_dataset(), self.classifier.facts.classes
        total = int(self.influence.counts.sum())
        for label in self.rank_units():
            images = int(self.influence.counts[self.influence.present == label])
            own = self.influence.average_class(label)[label]
            for kind, values, number in (("class", own, images), ("dataset", dataset[label], total)):
                for rank, unit in enumerate(values.argsort(descending=True, stable=True)[:count].tolist(), 1):
                    cells = names[label], kind, rank, unit, f"{float(values[unit]):.8g}", number
                    yield dict(zip(RANKING_COLUMNS, cells, strict=True))

    def measure_curve(self, batches: Sequence[Batch], seed: int) -> tuple[list[CurvePoint], int]:
        """Measure what the experts of every class that occurs are worth.

        Args:
            batches: The images to measure on, with labels.
            seed: Decides the random order of the control.

        Returns:
            (the points of all classes, images that they were measured on); empty without known classes.
        """
        images = torch.cat([batch.images for batch in batches]) if batches else torch.zeros(0)
        labels = torch.cat([batch.labels for batch in batches]) if batches else torch.zeros(0)
        images, labels = images[labels != UNKNOWN], labels[labels != UNKNOWN]
        present = set(labels.tolist())
        ranked = {label: order for label, order in self.rank_units().items() if label in present}
        if not ranked:
            return [], 0
        with torch.inference_mode(False), torch.no_grad(), self.classifier.frozen():
            images = images.clone()
            evaluator = BatchedEvaluator(self.classifier, images[0], self.probe_batch_size)
            output, logits = self.cut.compute_activations(evaluator, images)
            upper = UpperNetwork(self.classifier, self.cut, images, output[:8], logits[:8])
            return list(measure_curves(upper, output, labels, ranked, seed)), len(images)

    def list_curve(self, curve: Sequence[CurvePoint]) -> Iterator[dict[str, Any]]:
        """List the points of a curve as rows of a table.

        Args:
            curve: The points.

        Yields:
            Rows with the columns `CURVE_COLUMNS`.
        """
        for point in curve:
            name = self.classifier.facts.classes[point.target]
            alarms = "" if point.false_alarms != point.false_alarms else f"{point.false_alarms:.6g}"
            cells = name, point.units, point.order, f"{point.recall:.6g}", alarms
            yield dict(zip(CURVE_COLUMNS, cells, strict=True))
