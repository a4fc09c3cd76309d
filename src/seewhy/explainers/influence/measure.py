"""Internal influence over a set of images: one pass gives it for every class and every pair of classes.

A network cut in two at the output of one layer, and the units of that output.
The images that data-wide influence is averaged over.
Quantities of interest: the score, or the difference of two scores, that influence is measured on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import Incompatible, UserError
from seewhy.core.targets import class_index
from seewhy.core.types import Batch, Images, Targets
from seewhy.data.dataset import TrainingSet
from seewhy.explainers.layer_signals import (
    record_activation,
    record_activation_and_gradients,
    record_activation_with_graph,
)
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier
from seewhy.models.layers import as_grid

REDUCTIONS = ("mean", "max")


def check_reduction(reduction: str) -> None:
    """UserError where `reduction` is neither mean nor max."""
    if reduction not in REDUCTIONS:
        raise UserError(f"reduction={reduction!r} must be mean or max: what a channel's positions come to")


class Slice:
    """f = g(h(image)) with z = h(image) the output of `layer`; None: the classifier's influence layer.

    A unit is a column of a dense output [batch, units] or a channel of an output with positions, whose values come to
    one by `reduction` (mean or max over the positions).
    """

    def __init__(self, classifier: Classifier, layer: str | None, reduction: str) -> None:
        check_reduction(reduction)
        chosen = layer or classifier.influence_layer
        if chosen is None:
            raise Incompatible(
                f"{classifier.name} names no influence layer: set explainer.layer (or model.influence_layer) to the "
                "name of a module, such as the last pooling or ReLU"
            )
        self.name, self.reduction = chosen, reduction
        self.module = classifier.layer(chosen)

    def units(self, values: Tensor, network_input: Tensor, network: torch.nn.Module) -> Tensor:
        """Output of the layer (or its gradient) [batch, ...] -> [batch, units]."""
        if values.ndim == 2:
            return values
        grid = as_grid(values, network, (int(network_input.shape[2]), int(network_input.shape[3])))
        if grid is None and values.ndim == 4:
            grid = values
        if grid is None:
            raise Incompatible(f"the layer {self.name} gives {list(values.shape)}: units need [batch, units] or a grid")
        return grid.mean((2, 3)) if self.reduction == "mean" else grid.amax((2, 3))

    def activations(self, evaluator: BatchedEvaluator, images: Images) -> tuple[Tensor, Tensor]:
        """(z [n, ...], logits [n, classes]) without gradients."""

        def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
            return record_activation(evaluator.classifier, self.module, images[chunk])

        output, logits = evaluator.in_passes(one, len(images), gradient=False)
        return output, logits

    def influence(self, evaluator: BatchedEvaluator, images: Images, quantities: Tensor) -> tuple[Tensor, Tensor]:
        """(z [n, ...], d q / d z [n, quantities, ...]) of q = weights . logits, weights [n, quantities, classes].

        One forward pass serves all quantities.
        """

        def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
            weights = quantities[chunk].transpose(0, 1)
            output, gradients = record_activation_and_gradients(
                evaluator.classifier, self.module, images[chunk], weights
            )
            return output, gradients.transpose(0, 1)

        output, gradients = evaluator.in_passes(one, len(images), gradient=True)
        return output, gradients

    def unit_gradient(self, evaluator: BatchedEvaluator, images: Images, units: Tensor) -> tuple[Tensor, Tensor]:
        """(activation [n] of one unit for each image, its gradient by the image [n, 3, height, width])."""

        def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
            leaves = images[chunk].detach().requires_grad_()
            output = record_activation_with_graph(evaluator.classifier, self.module, leaves)
            with torch.enable_grad():
                values = self.units(output, leaves, evaluator.classifier.network).gather(1, units[chunk][:, None])[:, 0]
                (gradient,) = torch.autograd.grad(values.sum(), leaves)
            return values.detach(), gradient

        values, gradient = evaluator.in_passes(one, len(images), gradient=True)
        return values, gradient

    def keep(self, values: Tensor, units: Tensor) -> Tensor:
        """A copy of the layer's output in which every unit but `units` int64 [k] is 0."""
        count_last = values.ndim == 3 or (values.ndim == 4 and values.shape[1] == values.shape[2] != values.shape[3])
        dimension = values.ndim - 1 if count_last else 1
        kept = torch.zeros_like(values)
        return kept.index_copy_(dimension, units, values.index_select(dimension, units))


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
        for position, target in enumerate(targets.tolist()):
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
        expected = origin(classifier, part)
        wrong = [
            f"{key} {made_of.get(key)!r}, not {value!r}" for key, value in expected.items() if made_of.get(key) != value
        ]
        if wrong:
            raise UserError(f"{path} belongs to another network or layer ({'; '.join(wrong)}): make it anew")
        return DataInfluence(values, present, counts, made_of)


def origin(classifier: Classifier, part: Slice) -> dict[str, str]:
    """What the influences of a slice belong to."""
    return {"layer": part.name, "reduction": part.reduction, "weights": classifier.weights_sha256}


def data_influence(
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
    return DataInfluence(means, torch.tensor(present), number, origin(classifier, part))


STEP = 250
"""Images that are read at once."""


def distribution(trainer: Trainer, images: int) -> tuple[str, Iterator[Batch]]:
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


def compared_class(
    against: str | int | None, logits: Tensor, targets: Targets, classes: Sequence[str]
) -> Tensor | None:
    """int64 [batch]: the class whose score is taken off the target's, None where there is none.

    `against` is an index, a name, or `runner_up`: the class other than the target with the largest of logits
    [batch, classes].
    """
    if against is None:
        return None
    if against == "runner_up":
        return logits.scatter(1, targets[:, None], -torch.inf).argmax(1)
    text = str(against)
    try:
        index = int(text) if text.isdigit() else class_index(text, classes)
    except UserError as error:
        raise UserError(f"explainer.against={against}: {error}") from error
    if index >= len(classes):
        raise UserError(f"explainer.against={index} must be from 0 to {len(classes) - 1}, or a class name")
    return torch.full_like(targets, index)


def difference_of_scores(targets: Targets, against: Tensor | None, classes: int) -> Tensor:
    """Weights [n, classes] of q: the target's logit, or the target's less that of `against` [n]."""
    weights = functional.one_hot(targets, classes).float()
    return weights if against is None else weights - functional.one_hot(against, classes).float()
