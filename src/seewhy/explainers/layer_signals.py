"""Activations of an inner layer and gradients with respect to them; no hook outlives a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seewhy.core.errors import Incompatible
from seewhy.core.tensors import widen
from seewhy.core.types import Images, Targets

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

NO_EFFECT = "the score does not depend on the layer; set explainer.layer or model.cam_layer"


def record_activation(classifier: Classifier, layer: nn.Module, images: Images) -> tuple[Tensor, Tensor]:
    """Record (output of `layer`, logits) of a pass without gradients; both float32 at least.

    A layer that runs several times counts with its last run. Incompatible where it does not run or gives no tensor.
    """
    with torch.no_grad(), _record(layer, differentiate=False) as outputs:
        logits = classifier(images)
    return widen(_take_last(outputs)), widen(logits)


def record_activation_with_graph(classifier: Classifier, layer: nn.Module, images: Images) -> Tensor:
    """Record the output of `layer` with its graph down to `images`, which must require a gradient.

    Counts a backward pass. Incompatible as `record_activation`.
    """
    with torch.enable_grad(), _record(layer, differentiate=False) as outputs:
        classifier(images)
        output = widen(_take_last(outputs))
    classifier.passes.backward += len(images)
    return output


def record_activation_and_gradient(
    classifier: Classifier, layer: nn.Module, images: Images, targets: Targets
) -> tuple[Tensor, Tensor]:
    """Record (output of `layer`, d score / d output), both of the output's shape and float32 at least.

    Incompatible as `record_activation`, and where the score does not depend on the layer.
    """
    with torch.enable_grad(), _record(layer, differentiate=True) as outputs:
        score = targets.score(widen(classifier(images))).sum()
        output = _take_last(outputs)
        gradient = torch.autograd.grad(score, output, allow_unused=True)[0] if score.requires_grad else None
    if gradient is None:
        raise Incompatible(NO_EFFECT)
    return widen(output.detach()), widen(gradient)


def record_activation_and_gradients(
    classifier: Classifier, layer: nn.Module, images: Images, quantities: Tensor
) -> tuple[Tensor, Tensor]:
    """Record the output of a layer and the gradients of several quantities with respect to it, from one forward pass.

    Args:
        classifier: The network.
        layer: One of its modules.
        images: Float [batch, channels, height, width].
        quantities: Weights of the logits [quantities, batch, classes]: q = sum over classes of weight x logit.

    Returns:
        (output z of `layer`, d q / d z [quantities, *z.shape]), both float32 at least.

    Raises:
        Incompatible: As `record_activation_and_gradient`.
    """
    with torch.enable_grad(), _record(layer, differentiate=True) as outputs:
        logits = widen(classifier(images))
        output = _take_last(outputs)
        gradients = []
        for weights in quantities if logits.requires_grad else []:
            (gradient,) = torch.autograd.grad((logits * weights).sum(), output, retain_graph=True, allow_unused=True)
            gradients += [] if gradient is None else [widen(gradient)]
    if len(gradients) < len(quantities):
        raise Incompatible(NO_EFFECT)
    return widen(output.detach()), torch.stack(gradients)


def _take_last(outputs: list[object]) -> Tensor:
    if not outputs or not isinstance(outputs[-1], Tensor):
        what = f"gives a {type(outputs[-1]).__name__} instead of a tensor" if outputs else "takes no part in a pass"
        raise Incompatible(f"the layer {what}; set explainer.layer or model.cam_layer")
    return outputs[-1]


@contextmanager
def _record(layer: nn.Module, differentiate: bool) -> Iterator[list[object]]:
    """The outputs of `layer` inside the block.

    Gradients stop at the layer: a tensor that needs none becomes a leaf, so that nothing below it is differentiated.
    The network goes on with a copy, so that a later in-place operation (ReLU(inplace=True)) cannot change the record.
    """
    outputs: list[object] = []

    def record(module: nn.Module, arguments: object, output: object) -> object:
        if not isinstance(output, Tensor):
            outputs.append(output)
            return output
        recorded = output.detach().requires_grad_() if differentiate and not output.requires_grad else output
        outputs.append(recorded)
        return recorded.clone()

    handle = layer.register_forward_hook(record)
    try:
        yield outputs
    finally:
        handle.remove()
