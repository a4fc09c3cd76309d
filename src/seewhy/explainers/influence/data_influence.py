"""Internal influence over a set of images: one pass gives it for every class and every pair of classes.

A network cut in two at the output of one layer, and the units of that output.
The images that data-wide influence is averaged over.
Quantities of interest: the score, or the difference of two scores, that influence is measured on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Batch, Targets
from seewhy.data.loading import TrainingSet
from seewhy.explainers.influence.slices import Slice
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier

LARGEST = 2**30
"""Bytes that the influences may take."""


@dataclass(frozen=True)
class DataInfluence:
    """Mean of d logit_c / d unit over the images of each class that occurs in a set of images."""

    values: Tensor
    """float32 [present classes, classes, units]."""
    present: Tensor
    """int64 [present classes]: -1 stands for the images without a known class."""
    counts: Tensor
    """int64 [present classes]: images of each."""
    made_of: dict[str, str]
    """Layer, reduction and hash of the weights that the numbers belong to."""

    def of_class(self, target: int) -> Tensor:
        """[classes, units]: the mean over the images of class `target`; UserError where there were none."""
        rows = (self.present == target).nonzero().flatten()
        if not len(rows):
            raise UserError(
                f"the influences hold no image of class {target}: take explainer.distribution=dataset, or data with it"
            )
        return self.values[rows[0]]

    def of_dataset(self) -> Tensor:
        """[classes, units]: the mean over all images."""
        return torch.einsum("k,kcu->cu", self.counts.float() / self.counts.sum(), self.values)

    def of_scores(self, targets: Targets, against: Tensor | None, over_dataset: bool) -> Tensor:
        """[n, units] on each target's score, less that of `against` [n]: over the target's own images or over all."""
        dataset, rows = self.of_dataset(), []
        for position, target in enumerate(targets.classes.tolist()):
            table = dataset if over_dataset else self.of_class(target)
            rows.append(table[target] - (table[int(against[position])] if against is not None else 0))
        return torch.stack(rows).to(targets.device)

    def to_bytes(self) -> bytes:
        """The content of a safetensors file."""
        tensors = {"values": self.values, "present": self.present, "counts": self.counts}
        return save(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, {"made_of": json.dumps(self.made_of)}
        )

    @staticmethod
    def read(path: Path, classifier: Classifier, part: Slice) -> DataInfluence:
        """Read back what `to_bytes` gave; UserError where it belongs to another layer, reduction or network."""
        if not path.is_file():
            raise UserError(f"explainer.influences={path}: there is no such file; callbacks=experts writes it")
        with safe_open(path, framework="pt") as file:
            made_of = json.loads((file.metadata() or {}).get("made_of", "{}"))
            values, present, counts = (file.get_tensor(name) for name in ("values", "present", "counts"))
        expected = describe_origin(classifier, part)
        wrong = [
            f"{key} {made_of.get(key)!r}, not {value!r}" for key, value in expected.items() if made_of.get(key) != value
        ]
        if wrong:
            raise UserError(f"{path} belongs to another network or layer ({'; '.join(wrong)}): make it anew")
        return DataInfluence(values, present, counts, made_of)


def describe_origin(classifier: Classifier, part: Slice) -> dict[str, str]:
    """What the influences of a slice belong to."""
    return {"layer": part.name, "reduction": part.reduction, "weights": classifier.weights_sha256}


def compute_data_influence(
    classifier: Classifier, part: Slice, batches: Iterable[Batch], probe_batch_size: int | str = "auto"
) -> DataInfluence:
    """The influences over the images of all batches, with one forward pass each and a backward for every class.

    chi_j(q, P) = mean over the images of P of d q / d z_j at z = h(image), for q = each logit and P = the images of
    each class. Leino, Sen, Datta, Fredrikson, Li: Influence-directed explanations for deep convolutional networks, 2018.
    """
    sums: dict[int, Tensor] = {}
    counts: dict[int, int] = {}
    classes = len(classifier.facts.classes)
    with torch.inference_mode(False), torch.no_grad(), classifier.frozen():
        for batch in batches:
            images = batch.images.clone()
            quantities = torch.eye(classes, device=images.device).expand(len(images), -1, -1)
            _, gradient = part.influence(BatchedEvaluator(classifier, images[0], probe_batch_size), images, quantities)
            units = part.units(gradient.flatten(0, 1), images, classifier.network).view(len(images), classes, -1)
            for label in batch.labels.unique().tolist():
                chosen = (batch.labels == label).nonzero().flatten()
                total = units[chosen].double().sum(0).cpu()
                sums[label] = sums[label] + total if label in sums else total
                counts[label] = counts.get(label, 0) + len(chosen)
            if sums and len(sums) * total.numel() * 8 > LARGEST:
                raise UserError(
                    f"influences of {len(sums)} classes on {classes} x {units.shape[2]} units take too much "
                    "memory: take a smaller layer or data of fewer classes"
                )
    present = sorted(sums)
    if not present:
        raise UserError("there is no image to measure influences on")
    means = torch.stack([sums[label] / counts[label] for label in present]).float()
    number = torch.tensor([counts[label] for label in present])
    return DataInfluence(means, torch.tensor(present), number, describe_origin(classifier, part))


STEP = 250
"""Images that are read at once."""


def read_distribution(trainer: Trainer, images: int) -> tuple[str, Iterator[Batch]]:
    """(`training` or `test`, the first `images` images of the training set or else of the test loop)."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    device = trainer.strategy.root_device
    if isinstance(data, TrainingSet):
        total = min(images, data.training_count())
        spans = (list(range(start, min(total, start + STEP))) for start in range(0, total, STEP))
        return "training", (data.training_batch(span).to(device) for span in spans)
    return "test", _first(trainer, images)


def _first(trainer: Trainer, images: int) -> Iterator[Batch]:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    left = images
    for batch in data.test_dataloader():
        if left > 0 and batch.names:
            yield data.on_after_batch_transfer(batch.to(trainer.strategy.root_device), 0).first(left)
            left -= len(batch.names)
