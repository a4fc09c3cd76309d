"""The essence of a class: how well the network still tells it from the rest with only its top experts left.

The experts of every class of a data set, and what they are worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seewhy.core.errors import Incompatible
from seewhy.core.targets import UNKNOWN
from seewhy.core.types import Batch, Images
from seewhy.explainers.influence.data_influence import DataInfluence, compute_data_influence
from seewhy.explainers.influence.slices import Slice
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier


class CurvePoint(NamedTuple):
    """One point of the curve of one class."""

    target: int
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

    def __init__(self, classifier: Classifier, part: Slice, images: Images, output: Tensor, logits: Tensor) -> None:
        self.classifier, self.part, self.image = classifier, part, torch.zeros_like(images[:1])
        if not torch.allclose(self(output), logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max())):
            raise Incompatible(
                f"the layer {part.name} does not cut the network in two: something passes it by; set "
                "callbacks.experts.layer to a layer that everything goes through, such as the last pooling"
            )

    def __call__(self, output: Tensor) -> Tensor:
        """Logits, without gradients."""
        handle = self.part.module.register_forward_hook(lambda module, arguments, own: output)
        try:
            with torch.no_grad():
                return self.classifier(self.image).float()
        finally:
            handle.remove()


def list_unit_counts(units: int) -> list[int]:
    """1, 2, 4, ... and all units.

    >>> kept_counts(10)
    [1, 2, 4, 8, 10]
    """
    return [2**power for power in range(units.bit_length()) if 2**power < units] + [units]


def measure_curves(
    upper: UpperNetwork, output: Tensor, labels: Tensor, ranked: dict[int, Tensor], seed: int = 0, block: int = 1000
) -> Iterator[CurvePoint]:
    """The curve of every class in `ranked` (its units, best expert first), beside a random order of the units.

    `output` [n, ...] of the layer for images with `labels` [n]. recall and false alarms of class c count the images
    whose largest logit is c when the network above sees only the first k units.
    """
    for target, order in ranked.items():
        chance = torch.randperm(len(order), generator=torch.Generator().manual_seed(seed + target))
        for name, units in (("experts", order), ("random", chance)):
            for count in list_unit_counts(len(order)):
                chosen = units[:count].to(output.device)
                parts = [upper(upper.part.keep(piece, chosen)).argmax(1) == target for piece in output.split(block)]
                said, own = torch.cat(parts), labels == target
                yield CurvePoint(target, count, name, _share(said[own]), _share(said[~own]))


def average_curve(curve: Sequence[CurvePoint], order: str) -> list[tuple[int, float, float]]:
    """(units kept, recall, false alarms), each the mean over the classes."""
    rows = []
    for count in sorted({point.units for point in curve}):
        points = [(one.recall, one.false_alarms) for one in curve if (one.units, one.order) == (count, order)]
        recall, alarms = torch.tensor(points, dtype=torch.float64).nanmean(0).tolist()
        rows.append((count, recall, alarms))
    return rows


def _share(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else torch.nan


RANKING_COLUMNS = ("class", "distribution", "rank", "unit", "influence", "images")
CURVE_COLUMNS = ("class", "units_kept", "order", "recall", "false_alarms")


@dataclass(frozen=True)
class Survey:
    """The influence of every unit of a slice on every class, over a set of images."""

    classifier: Classifier
    part: Slice
    influence: DataInfluence
    probe_batch_size: int | str

    @staticmethod
    def measure(
        classifier: Classifier,
        batches: Iterable[Batch],
        layer: str | None = None,
        reduction: str = "mean",
        probe_batch_size: int | str = "auto",
    ) -> Survey:
        """One pass over the images."""
        part = Slice(classifier, layer, reduction)
        return Survey(
            classifier, part, compute_data_influence(classifier, part, batches, probe_batch_size), probe_batch_size
        )

    def facts(self) -> dict[str, Any]:
        """What the run's record says."""
        counts, units = self.influence.counts, self.influence.values.shape[2]
        return self.influence.made_of | {"units": units, "influence_images": int(counts.sum())}

    def ranked(self) -> dict[int, Tensor]:
        """For each class with images its units, the largest influence first (over its own images)."""
        known = [label for label in self.influence.present.tolist() if label != UNKNOWN]
        return {label: self.influence.of_class(label)[label].argsort(descending=True, stable=True) for label in known}

    def ranking(self, count: int) -> Iterator[dict[str, Any]]:
        """The `count` top experts of each class, over its own images and over all."""
        dataset, names = self.influence.of_dataset(), self.classifier.facts.classes
        total = int(self.influence.counts.sum())
        for label in self.ranked():
            images = int(self.influence.counts[self.influence.present == label])
            tables = ("class", self.influence.of_class(label)[label], images), ("dataset", dataset[label], total)
            for kind, values, number in tables:
                for rank, unit in enumerate(values.argsort(descending=True, stable=True)[:count].tolist(), 1):
                    cells = names[label], kind, rank, unit, f"{float(values[unit]):.8g}", number
                    yield dict(zip(RANKING_COLUMNS, cells, strict=True))

    def curve(self, batches: Sequence[Batch], seed: int) -> tuple[list[CurvePoint], int]:
        """(the curve of every class that occurs, images that it was measured on); empty without known classes."""
        images = torch.cat([batch.images for batch in batches]) if batches else torch.zeros(0)
        labels = torch.cat([batch.labels for batch in batches]) if batches else torch.zeros(0)
        images, labels = images[labels != UNKNOWN], labels[labels != UNKNOWN]
        present = set(labels.tolist())
        ranked = {label: order for label, order in self.ranked().items() if label in present}
        if not ranked:
            return [], 0
        with torch.inference_mode(False), torch.no_grad(), self.classifier.frozen():
            images = images.clone()
            output, logits = self.part.activations(
                BatchedEvaluator(self.classifier, images[0], self.probe_batch_size), images
            )
            upper = UpperNetwork(self.classifier, self.part, images, output[:8], logits[:8])
            return list(measure_curves(upper, output, labels, ranked, seed)), len(images)

    def curve_rows(self, curve: Sequence[CurvePoint]) -> Iterator[dict[str, Any]]:
        """The curve as rows of a table."""
        for point in curve:
            name = self.classifier.facts.classes[point.target]
            alarms = "" if point.false_alarms != point.false_alarms else f"{point.false_alarms:.6g}"
            cells = name, point.units, point.order, f"{point.recall:.6g}", alarms
            yield dict(zip(CURVE_COLUMNS, cells, strict=True))
