"""Internal influence over a set of images: one pass gives it for every class and every pair of classes."""

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
READ_AT_ONCE = 250
"""Training images of a batch."""


@dataclass(frozen=True)
class DataInfluence:
    """Mean of d logit_c / d unit over the images of each class that occurs in a set of images."""

    values: Tensor
    """float32 [present classes, classes, units]."""
    present: Tensor
    """int64 [present classes]: -1 stands for the images without a known class."""
    counts: Tensor
    """int64 [present classes]: images of each."""
    origin: dict[str, str]
    """Layer, reduction and hash of the weights that the numbers belong to."""

    def average_class(self, target: int) -> Tensor:
        """[classes, units]: the mean over the images of class `target`; UserError where there were none."""
        rows = (self.present == target).nonzero().flatten()
        if not len(rows):
            raise UserError(
                f"the influences hold no image of class {target}: take explainer.distribution=dataset, or data with it"
            )
        return self.values[rows[0]]

    def average_dataset(self) -> Tensor:
        """[classes, units]: the mean over all images."""
        return torch.einsum("k,kcu->cu", self.counts.float() / self.counts.sum(), self.values)

    def select_scores(self, targets: Targets, against: Tensor | None, over_dataset: bool) -> Tensor:
        """[n, units] on each target's score, less that of `against` [n]: over the target's own images or over all."""
        dataset, rows = self.average_dataset(), []
        for position, target in enumerate(targets.classes.tolist()):
            table = dataset if over_dataset else self.average_class(target)
            rows.append(table[target] - (table[int(against[position])] if against is not None else 0))
        return torch.stack(rows).to(targets.device)

    def to_bytes(self) -> bytes:
        """The content of a safetensors file."""
        tensors = {"values": self.values, "present": self.present, "counts": self.counts}
        return save(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, {"made_of": json.dumps(self.origin)}
        )

    @staticmethod
    def read(path: Path, classifier: Classifier, cut: Slice) -> DataInfluence:
        """Read back what `to_bytes` gave.

        Args:
            path: The file.
            classifier: The network that is explained.
            cut: The slice that the influences must belong to.

        Returns:
            The influences.

        Raises:
            UserError: There is no such file, or it belongs to another layer, reduction or network.
        """
        if not path.is_file():
            raise UserError(f"explainer.influences={path}: there is no such file; callbacks=experts writes it")
        with safe_open(path, framework="pt") as file:
            origin = json.loads((file.metadata() or {}).get("made_of", "{}"))
            values, present, counts = (file.get_tensor(name) for name in ("values", "present", "counts"))
        expected = describe_origin(classifier, cut)
        wrong = [
            f"{key} {origin.get(key)!r}, not {value!r}" for key, value in expected.items() if origin.get(key) != value
        ]
        if wrong:
            raise UserError(
                f"{path} belongs to another network or layer ({'; '.join(wrong)}): run callbacks=experts again"
            )
        return DataInfluence(values, present, counts, origin)


def describe_origin(classifier: Classifier, cut: Slice) -> dict[str, str]:
    """What the influences of a slice belong to."""
    return {"layer": cut.name, "reduction": cut.reduction, "weights": classifier.weights_sha256}


def compute_data_influence(
    classifier: Classifier, cut: Slice, batches: Iterable[Batch], probe_batch_size: int | str = "auto"
) -> DataInfluence:
    """Average the influence on every logit over the images of each class.

    chi_j(q, P) = mean over the images of P of d q / d z_j at z = h(image), for q = each logit and P = the images of
    each class. One forward pass an image, and a backward pass for every class.

    Args:
        classifier: The classifier.
        cut: The slice whose units are measured.
        batches: The images, with labels; -1 stands for an unknown class.
        probe_batch_size: Bound on the images in the network at once, or `auto`.

    Returns:
        The influences.

    Raises:
        UserError: There is no image, or the influences would take too much memory.
    """
    sums: dict[int, Tensor] = {}
    counts: dict[int, int] = {}
    classes = len(classifier.facts.classes)
    with torch.inference_mode(False), torch.no_grad(), classifier.frozen():
        for batch in batches:
            images = batch.images.clone()
            quantities = torch.eye(classes, device=images.device).expand(len(images), -1, -1)
            evaluator = BatchedEvaluator(classifier, images[0], probe_batch_size)
            _, gradient = cut.compute_influence(evaluator, images, quantities)
            units = cut.reduce_to_units(gradient.flatten(0, 1), images, classifier.network)
            units = units.view(len(images), classes, -1)
            for label in batch.labels.unique().tolist():
                rows = (batch.labels == label).nonzero().flatten()
                total = units[rows].double().sum(0).cpu()
                sums[label] = sums[label] + total if label in sums else total
                counts[label] = counts.get(label, 0) + len(rows)
            if sums and len(sums) * total.numel() * 8 > LARGEST:
                raise UserError(
                    f"influences of {len(sums)} classes on {classes} x {units.shape[2]} units take too much "
                    "memory: take a smaller layer or data of fewer classes"
                )
    present = sorted(sums)
    if not present:
        raise UserError("there is no image to measure influences on")
    means = torch.stack([sums[label] / counts[label] for label in present]).float()
    numbers = torch.tensor([counts[label] for label in present])
    return DataInfluence(means, torch.tensor(present), numbers, describe_origin(classifier, cut))


def read_distribution(trainer: Trainer, images: int) -> tuple[str, Iterator[Batch]]:
    """Read the images that influences are averaged over.

    Args:
        trainer: The trainer, with its data module.
        images: How many images, from the first on.

    Returns:
        (`training` and batches of the training set, or `test` and batches of the test loop where there is none).
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    device = trainer.strategy.root_device
    if isinstance(data, TrainingSet):
        total = min(images, data.training_count())
        spans = (list(range(start, min(total, start + READ_AT_ONCE))) for start in range(0, total, READ_AT_ONCE))
        return "training", (data.training_batch(span).to(device) for span in spans)
    return "test", _read_test_images(trainer, images)


def _read_test_images(trainer: Trainer, images: int) -> Iterator[Batch]:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    left = images
    for batch in data.test_dataloader():
        if left > 0 and batch.names:
            yield data.on_after_batch_transfer(batch.to(trainer.strategy.root_device), 0).first(left)
            left -= len(batch.names)
