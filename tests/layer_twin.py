"""Activations and gradients of a layer, one image at a time, as a slow twin of class activation maps needs them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

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


def enlarged(small: Tensor, side: int, start: float = 0.0, stride: float | None = None) -> Tensor:
    """A map [rows, columns] enlarged bilinearly, whose cells begin at pixel `start` and are `stride` pixels long."""
    stride = side / len(small) if stride is None else stride
    centres = start + stride * (np.arange(len(small)) + 0.5) - 0.5
    large = small.double().numpy()
    for axis in (0, 1):
        large = np.apply_along_axis(lambda values: np.interp(np.arange(side), centres, values), axis, large)
    return torch.as_tensor(large).to(small)


def first_cell(layer: str) -> tuple[float, float]:
    """(start, stride) of the cells of a layer of the tutorial network: 5x5 windows without padding, halved twice."""
    return {"conv1": (2, 1), "relu1": (2, 1), "pool1": (2, 2), "conv2": (6, 2), "relu2": (6, 2), "pool2": (6, 4)}[layer]
