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
        self.module = classifier.find_layer(name)

    def reduce_to_units(self, values: Tensor, network_input: Tensor, network: torch.nn.Module) -> Tensor:
        """Output of the layer (or its gradient) [batch, ...] -> [batch, units]."""
        if values.ndim == 2:
            return values
        grid = arrange_as_grid(values, network, (int(network_input.shape[2]), int(network_input.shape[3])))
        if grid is None and values.ndim == 4:
            grid = values
        if grid is None:
            raise Incompatible(f"the layer {self.name} gives {list(values.shape)}: units need [batch, units] or a grid")
        return grid.mean((2, 3)) if self.reduction == "mean" else grid.amax((2, 3))

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
                activations = self.reduce_to_units(output, leaves, evaluator.classifier.network)
                values = activations.gather(1, units[chunk][:, None])[:, 0]
                (gradient,) = torch.autograd.grad(values.sum(), leaves)
            return values.detach(), gradient

        values, gradient = evaluator.run_passes(compute, len(images), gradient=True)
        return values, gradient

    def keep_units(self, values: Tensor, units: Tensor) -> Tensor:
        """A copy of the layer's output in which every unit but `units` int64 [k] is 0."""
        channels_last = values.ndim == 3 or (values.ndim == 4 and values.shape[1] == values.shape[2] != values.shape[3])
        dimension = values.ndim - 1 if channels_last else 1
        return torch.zeros_like(values).index_copy_(dimension, units, values.index_select(dimension, units))


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
