"""The networks of the comparison, each as our classifier and as the plain module that a peer gets."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from benchmarking.peers.plain import Plain, plain_of, rectified, sharing_weights
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from conftest import ROOT
from seewhy.data.folder import Samples
from seewhy.models.classifier import Classifier
from seewhy.models.layers import find_cam_layer

NETWORKS = {
    "cifar_cnn": ("model=cifar_cnn", "model.weights=shipped"),
    "efficientnet_lite0": ("model=efficientnet_lite0", "model.weights=pretrained", "model.size=64"),
    "squeezenet": ("model=squeezenet", "model.weights=random", "model.size=64"),
    "vgg16": ("model=vgg16", "model.weights=random", "model.size=32"),
    "vit_tiny": ("model=timm", "model.name=vit_tiny_patch16_224", "model.weights=random", "model.size=64"),
}
"""Overrides of the command's own config: small images keep the comparison short."""
ALSO = {
    "mobilenetv3": ("model=mobilenetv3", "model.weights=random", "model.size=64"),
    "vgg16_cifar": ("model=vgg16_cifar", "model.weights=shipped"),
    "silu": ("model=timm", "model.name=test_efficientnet", "model.weights=random", "model.size=64"),
}
"""Networks of the tests of traps alone."""
CNNS = ("cifar_cnn", "efficientnet_lite0", "squeezenet", "vgg16")
ALL = tuple(NETWORKS)


@dataclass(frozen=True)
class Case:
    """Two sample images, the likeliest class of the first and the second likeliest of the second.

    Everything is in double precision: two orders of summation then differ by some 1e-14, and a gate of ReLU6 that stands
    at its edge in single precision does not open on one side and close on the other.
    """

    classifier: Classifier
    images: Tensor
    targets: Tensor
    layer: str

    @cached_property
    def plain(self) -> Plain:
        """The network without a line of ours, on the same weights."""
        return plain_of(self.classifier)

    def copied(self) -> Plain:
        """`plain` once more, for a peer that changes modules; the weights are shared."""
        return sharing_weights(self.plain)

    @cached_property
    def rectified(self) -> Plain:
        """`plain` with ReLU6 written as min(ReLU, 6)."""
        return rectified(self.plain)

    def steep(self, factor: float) -> Case:
        """With all logits times `factor`: constants that peers add to denominators no longer count."""
        network = self.classifier.network
        last = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
        own = [last.weight] if last.bias is None else [last.weight, last.bias]
        shared = {id(value): value for value in network.parameters() if all(value is not each for each in own)}
        classifier = copy.deepcopy(self.classifier, shared)
        last = [module for module in classifier.network.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
        with torch.no_grad():
            for value in (last.weight, last.bias):
                if value is not None:
                    value.mul_(factor)
        return Case(classifier, self.images, self.targets, self.layer)


@cache
def case(name: str) -> Case:
    """The network as the command would build it, with the project's sample images; computed as the peers compute it."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("explain", [*{**NETWORKS, **ALSO}[name], "model.fold=false"])
    classifier = instantiate(config.model, _convert_="object").double()
    data = Samples(facts=classifier.facts, limit=2)
    data.setup("test")
    images = next(iter(data.test_dataloader())).images.double()
    classifier.requires_grad_(False)
    with torch.no_grad():
        ranked = classifier(images).argsort(1, descending=True)
    targets = torch.stack([ranked[0, 0], ranked[1, 1]])
    return Case(
        classifier,
        images,
        targets,
        classifier.cam_layer or find_cam_layer(classifier, (images.shape[2], images.shape[3])),
    )


def grid(tokens: Tensor) -> Tensor:
    """Tokens [batch, 1 + rows * columns, channels] of the vision transformer as [batch, channels, rows, columns]."""
    side = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))
