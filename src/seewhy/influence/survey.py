"""The experts of every class of a data set, and what they are worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.classifier import Classifier
from seewhy.influence.data_influence import DataInfluence, data_influence
from seewhy.influence.keep_experts import Kept, Upper, keep_experts
from seewhy.influence.slice import Slice
from seewhy.probe import Probe
from seewhy.targets import UNKNOWN
from seewhy.types import Batch

RANKING = ("class", "distribution", "rank", "unit", "influence", "images")
CURVE = ("class", "units_kept", "order", "recall", "false_alarms")


@dataclass(frozen=True)
class Survey:
    """The influence of every unit of a slice on every class, over a set of images."""

    classifier: Classifier
    part: Slice
    influence: DataInfluence
    probe_batch_size: int | str

    @staticmethod
    def of(
        classifier: Classifier,
        batches: Iterable[Batch],
        layer: str | None = None,
        reduction: str = "mean",
        probe_batch_size: int | str = "auto",
    ) -> Survey:
        """One pass over the images."""
        part = Slice(classifier, layer, reduction)
        return Survey(classifier, part, data_influence(classifier, part, batches, probe_batch_size), probe_batch_size)

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
                    yield dict(zip(RANKING, cells, strict=True))

    def curve(self, batches: Sequence[Batch], seed: int) -> tuple[list[Kept], int]:
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
            output, logits = self.part.activations(Probe(self.classifier, images[0], self.probe_batch_size), images)
            upper = Upper(self.classifier, self.part, images, output[:8], logits[:8])
            return list(keep_experts(upper, output, labels, ranked, seed)), len(images)

    def curve_rows(self, curve: Sequence[Kept]) -> Iterator[dict[str, Any]]:
        """The curve as rows of a table."""
        for point in curve:
            name = self.classifier.facts.classes[point.target]
            alarms = "" if point.false_alarms != point.false_alarms else f"{point.false_alarms:.6g}"
            cells = name, point.units, point.order, f"{point.recall:.6g}", alarms
            yield dict(zip(CURVE, cells, strict=True))
