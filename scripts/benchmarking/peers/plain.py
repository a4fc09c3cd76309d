"""A classifier of ours as peers want to see it: modules without a line of ours, on the same weights."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn

from seewhy.models.classifier import Classifier

Module = TypeVar("Module", bound=nn.Module)


class Plain(nn.Module):
    """Normalisation and network alone: images in [0, 1] -> logits."""

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def normalised(self, images: Tensor) -> Tensor:
        """What the network itself sees."""
        return (images - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.network(self.normalised(images))


class AtMostSix(nn.Module):
    """min(., 6)."""

    def forward(self, features: Tensor) -> Tensor:
        """The smaller of each value and six."""
        return features.clamp(max=6.0)


def sharing_weights(module: Module) -> Module:
    """A copy of the modules on the same weights."""
    return copy.deepcopy(module, {id(value): value for value in module.parameters()})


def plain_of(classifier: Classifier) -> Plain:
    """A copy whose activations do not work in place: hooks need that."""
    copied = sharing_weights(classifier.network)
    for module in copied.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return Plain(copied, classifier.mean, classifier.std).eval()


def rectified(plain: Plain) -> Plain:
    """A copy with ReLU6 written as min(ReLU, 6): the same output, and a ReLU that peers know."""
    rewritten = sharing_weights(plain)
    for module in list(rewritten.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU6):
                setattr(module, name, nn.Sequential(nn.ReLU(), AtMostSix()))
    return rewritten.eval()
