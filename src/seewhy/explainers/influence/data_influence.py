"""Internal influence over a set of images: a network cut at a layer, one pass for every class and pair of classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from lightning.pytorch import Trainer
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import Incompatible, UserError
from seewhy.core.settings import OneOf
from seewhy.core.targets import find_class
from seewhy.core.types import Batch, Images, Targets
from seewhy.data.loading import TrainingSet
from seewhy.explainers.layer_signals import (
    record_activation,
    record_activation_and_gradients,
    record_activation_with_graph,
)
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.cell_grid import BatchLayout, CellGrid
from seewhy.models.classifier import Classifier
from seewhy.models.layers import find_cam_layer, measure_grid

REDUCTIONS = ("mean", "max")
Reduction = Annotated[str, OneOf(REDUCTIONS)]


def check_reduction(reduction: str) -> None:
    """UserError where `reduction` is neither mean nor max."""
    if reduction not in REDUCTIONS:
        raise UserError(f"reduction={reduction!r} must be mean or max: what a channel's positions come to")


class Slice:
    """f = g(h(image)) with z = h(image) the output of a layer.

    A unit is a column of a dense output [batch, units] or a channel of an output with positions.

    Args:
        classifier: The classifier.
        layer: Name of the layer; None: the classifier's influence layer.
        reduction: `mean` or `max` over the positions of a channel.
    """

    def __init__(self, classifier: Classifier, layer: str | None, reduction: str) -> None:
        check_reduction(reduction)
        name = layer or classifier.influence_layer
        if name is None:
            raise Incompatible(
                f"{classifier.name} names no influence layer: set explainer.layer (or model.influence_layer) to the "
                "name of a module, such as the last pooling or ReLU"
            )
        self.name, self.reduction = name, reduction
        self.classifier = classifier
        self.module = classifier.find_layer(name)

    def reduce_to_units(self, values: Tensor, images: Images) -> Tensor:
        """Output of the layer (or its gradient) [batch, ...] for images of that size -> [batch, units]."""
        if values.ndim == 2:
            return values
        grid = self._require_grid((images.shape[2], images.shape[3])).arrange(values)
        return grid.mean((2, 3)) if self.reduction == "mean" else grid.amax((2, 3))

    def _require_grid(self, size: tuple[int, int]) -> CellGrid:
        """Where the cells of the layer look; Incompatible where there are none, or the first axis is not the images."""
        grid = measure_grid(self.classifier, self.name, size)
        if grid is None or grid.layout != BatchLayout():
            what = "no grid of cells that each look at a point of their own"
            if grid is not None:
                what = "a first axis that is not the images alone (but their windows or tokens)"
            raise Incompatible(
                f"layer {self.name!r} has {what}, and units need [batch, units] or a grid for each image; set "
                f"explainer.layer={find_cam_layer(self.classifier, size)} or model.influence_layer to it"
            )
        return grid

    def compute_activations(self, evaluator: BatchedEvaluator, images: Images) -> tuple[Tensor, Tensor]:
        """(z [n, ...], logits [n, classes]) without gradients."""

        def compute(chunk: Tensor) -> tuple[Tensor, Tensor]:
            return record_activation(evaluator.classifier, self.module, images[chunk])

        output, logits = evaluator.run_passes(compute, len(images), gradient=False)
        return output, logits

    def compute_influence(
        self, evaluator: BatchedEvaluator, images: Images, quantities: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Differentiate quantities of interest q = weights . logits by the layer's output.

        Args:
            evaluator: The classifier; one forward pass serves all quantities.
            images: float32 [n, 3, height, width] in [0, 1].
            quantities: The weights, float32 [n, quantities, classes].

        Returns:
            (z [n, ...], d q / d z [n, quantities, ...]).
        """

        def compute(chunk: Tensor) -> tuple[Tensor, Tensor]:
            weights = quantities[chunk].transpose(0, 1)
            output, gradients = record_activation_and_gradients(
                evaluator.classifier, self.module, images[chunk], weights
            )
            return output, gradients.transpose(0, 1)

        output, gradients = evaluator.run_passes(compute, len(images), gradient=True)
        return output, gradients

    def compute_unit_gradient(
        self, evaluator: BatchedEvaluator, images: Images, units: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Differentiate one unit of each image by the image.

        Args:
            evaluator: The classifier.
            images: float32 [n, 3, height, width] in [0, 1].
            units: int64 [n].

        Returns:
            (activation [n] of the unit, its gradient [n, 3, height, width]).
        """

        def compute(chunk: Tensor) -> tuple[Tensor, Tensor]:
            leaves = images[chunk].detach().requires_grad_()
            output = record_activation_with_graph(evaluator.classifier, self.module, leaves)
            with torch.enable_grad():
                activations = self.reduce_to_units(output, leaves)
                values = activations.gather(1, units[chunk][:, None])[:, 0]
                (gradient,) = torch.autograd.grad(values.sum(), leaves)
            return values.detach(), gradient

        values, gradient = evaluator.run_passes(compute, len(images), gradient=True)
        return values, gradient

    def keep_units(self, values: Tensor, units: Tensor, size: tuple[int, int]) -> Tensor:
        """A copy of the layer's output, for images of (height, width) pixels, in which every unit but `units` [k] is 0."""
        if values.ndim == 2:
            return torch.zeros_like(values).index_copy_(1, units, values.index_select(1, units))
        return self._require_grid(size).keep_channels(values, units)


def find_compared_class(
    against: str | int | None, logits: Tensor, targets: Targets, classes: Sequence[str]
) -> Tensor | None:
    """The class whose score is taken off the target's.

    Args:
        against: Index or name of a class, or `runner_up`: the class other than the target with the largest logit.
        logits: float32 [batch, classes].
        targets: One class an image.
        classes: Names of the classes.

    Returns:
        int64 [batch], or None where there is none.

    Raises:
        UserError: There is no such class.
    """
    if against is None:
        return None
    if against == "runner_up":
        return logits.scatter(1, targets.classes[:, None], -torch.inf).argmax(1)
    text = str(against)
    try:
        index = int(text) if text.isdigit() else find_class(text, classes)
    except UserError as error:
        raise UserError(f"explainer.against={against}: {error}") from error
    if index >= len(classes):
        raise UserError(f"explainer.against={index} must be from 0 to {len(classes) - 1}, or a class name")
    return torch.full_like(targets.classes, index)


def build_score_weights(targets: Targets, against: Tensor | None, classes: int) -> Tensor:
    """Weights [n, classes] of q: the target's logit, or the target's less that of `against` [n]."""
    weights = targets.expand(classes)
    return weights if against is None else weights - functional.one_hot(against, classes).float()


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
            units = cut.reduce_to_units(gradient.flatten(0, 1), images)
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
