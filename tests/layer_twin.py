"""Activations and gradients of a layer, one image at a time, as a slow twin of class activation maps needs them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.models.classifier import Classifier


def signals(classifier: Classifier, layer: str, image: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """(activation, gradient) [channels, rows, columns] of one image, from a full backward pass."""
    kept: list[Tensor] = []
    handle = classifier.find_layer(layer).register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.enable_grad():
        score = classifier(image[None].clone().requires_grad_())[0, target]
        gradient = torch.autograd.grad(score, kept[0])[0]
    handle.remove()
    return kept[0][0].detach(), gradient[0]


def enlarged(small: Tensor, side: int) -> Tensor:
    """A map [rows, columns] enlarged bilinearly."""
    return functional.interpolate(small[None, None], (side, side), mode="bilinear")[0, 0]
