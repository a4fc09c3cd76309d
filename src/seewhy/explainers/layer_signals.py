"""Activations of an inner layer and the gradient of the score with respect to them; no hook outlives a call."""

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


def record_activation_and_gradient(
    classifier: Classifier, layer: nn.Module, images: Images, targets: Targets
) -> tuple[Tensor, Tensor]:
    """(output of `layer`, d logit_target / d output), both of the output's shape and float32 at least.

    A layer that runs several times counts with its last run. Incompatible where it does not run, gives no tensor, or
    where the score does not depend on it.
    """
    with torch.enable_grad(), _recorded(layer, differentiate=True) as outputs:
        score = targets.score(widen(classifier(images))).sum()
        output = _last(outputs)
        gradient = torch.autograd.grad(score, output, allow_unused=True)[0] if score.requires_grad else None
    if gradient is None:
        raise Incompatible("the score does not depend on the chosen layer; set explainer.layer or model.cam_layer")
    return widen(output.detach()), widen(gradient)


def record_activation_and_gradients(
    classifier: Classifier, layer: nn.Module, images: Images, quantities: Tensor
) -> tuple[Tensor, Tensor]:
    """(output z of `layer`, d q / d z [quantities, *z.shape]), both float32 at least, from one forward pass.

    `quantities` [quantities, batch, classes] are weights of the logits: q = sum over classes of weight x logit.
    Incompatible as `activation_and_gradient`.
    """
    with torch.enable_grad(), _recorded(layer, differentiate=True) as outputs:
        logits = widen(classifier(images))
        output = _last(outputs)
        gradients = []
        for weights in quantities if logits.requires_grad else []:
            (gradient,) = torch.autograd.grad((logits * weights).sum(), output, retain_graph=True, allow_unused=True)
            gradients += [] if gradient is None else [widen(gradient)]
    if len(gradients) < len(quantities):
        raise Incompatible("the score does not depend on the chosen layer; set explainer.layer or model.cam_layer")
    return widen(output.detach()), torch.stack(gradients)


def record_activation_with_graph(classifier: Classifier, layer: nn.Module, images: Images) -> Tensor:
    """Output of `layer` with its graph down to `images`, which must require a gradient; counts a backward pass."""
    with torch.enable_grad(), _recorded(layer, differentiate=False) as outputs:
        classifier(images)
    classifier.passes.backward += len(images)
    return widen(_last(outputs))


def record_activation(classifier: Classifier, layer: nn.Module, images: Images) -> tuple[Tensor, Tensor]:
    """(output of `layer`, logits), both float32 at least, without gradients; Incompatible as `activation_and_gradient`."""
    with torch.no_grad(), _recorded(layer, differentiate=False) as outputs:
        logits = classifier(images)
    return widen(_last(outputs)), widen(logits)


def _last(outputs: list[object]) -> Tensor:
    if not outputs or not isinstance(outputs[-1], Tensor):
        what = f"gives a {type(outputs[-1]).__name__} instead of a tensor" if outputs else "takes no part in a pass"
        raise Incompatible(f"the chosen layer {what}; set explainer.layer or model.cam_layer")
    return outputs[-1]


@contextmanager
def _recorded(layer: nn.Module, differentiate: bool) -> Iterator[list[object]]:
    """The outputs of `layer` inside the block.

    Gradients stop at the layer: a tensor that needs none becomes a leaf, so that nothing below it is differentiated.
    The network goes on with a copy, so that a later in-place operation (ReLU(inplace=True)) cannot change the record.
    """
    outputs: list[object] = []

    def record(module: nn.Module, arguments: object, output: object) -> object:
        if not isinstance(output, Tensor):
            outputs.append(output)
            return output
        kept = output.detach().requires_grad_() if differentiate and not output.requires_grad else output
        outputs.append(kept)
        return kept.clone()

    handle = layer.register_forward_hook(record)
    try:
        yield outputs
    finally:
        handle.remove()
