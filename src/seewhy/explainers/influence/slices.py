"""A network cut in two at the output of a layer: its units, their gradients, and the scores they are measured on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import Incompatible, UserError
from seewhy.core.targets import find_class
from seewhy.core.types import Images, Targets
from seewhy.explainers.layer_signals import (
    record_activation,
    record_activation_and_gradients,
    record_activation_with_graph,
)
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier
from seewhy.models.layers import arrange_as_grid

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
        grid = arrange_as_grid(values, network, (int(network_input.shape[2]), int(network_input.shape[3])))
        if grid is None and values.ndim == 4:
            grid = values
        if grid is None:
            raise Incompatible(f"the layer {self.name} gives {list(values.shape)}: units need [batch, units] or a grid")
        return grid.mean((2, 3)) if self.reduction == "mean" else grid.amax((2, 3))

    def activations(self, evaluator: BatchedEvaluator, images: Images) -> tuple[Tensor, Tensor]:
        """(z [n, ...], logits [n, classes]) without gradients."""

        def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
            return record_activation(evaluator.classifier, self.module, images[chunk])

        output, logits = evaluator.run_passes(one, len(images), gradient=False)
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

        output, gradients = evaluator.run_passes(one, len(images), gradient=True)
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

        values, gradient = evaluator.run_passes(one, len(images), gradient=True)
        return values, gradient

    def keep(self, values: Tensor, units: Tensor) -> Tensor:
        """A copy of the layer's output in which every unit but `units` int64 [k] is 0."""
        count_last = values.ndim == 3 or (values.ndim == 4 and values.shape[1] == values.shape[2] != values.shape[3])
        dimension = values.ndim - 1 if count_last else 1
        kept = torch.zeros_like(values)
        return kept.index_copy_(dimension, units, values.index_select(dimension, units))


def find_compared_class(
    against: str | int | None, logits: Tensor, targets: Targets, classes: Sequence[str]
) -> Tensor | None:
    """int64 [batch]: the class whose score is taken off the target's, None where there is none.

    `against` is an index, a name, or `runner_up`: the class other than the target with the largest of logits
    [batch, classes].
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
