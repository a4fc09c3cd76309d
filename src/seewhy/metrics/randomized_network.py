"""A copy of a classifier whose layers can be given random parameters; the classifier itself is never touched."""

from __future__ import annotations

import copy
import hashlib

import torch
from torch import nn

from seewhy.classifier import Classifier
from seewhy.explainers.base import Explainer
from seewhy.types import Attributions, Images, Targets

Layer = tuple[str, ...]
"""The modules that are randomised together: one with weights, and normalisations that follow it."""


class RandomizedNetwork:
    """`layers` lists the layers of the copy, the one nearest to the output first.

    A layer is a module with a parameter of two or more dimensions, in the order of definition, together with the modules
    behind it whose parameters are vectors (normalisations). To randomise it is to draw each of its parameters anew from a
    normal distribution with that parameter's own mean and standard deviation; the numbers belong to (seed, name).
    """

    def __init__(self, classifier: Classifier, seed: int) -> None:
        self.classifier = classifier
        self.seed = seed
        self.copy = _copied(classifier)
        self.layers = layers_of(classifier.network)

    def randomize(self, *layers: Layer) -> None:
        """Draw the parameters of these layers anew."""
        for name in (module for layer in layers for module in layer):
            for key, parameter in self._module(name).named_parameters(recurse=False):
                values = parameter.data.double()
                noise = torch.randn(values.shape, generator=_generator(self.seed, f"{name}.{key}"), dtype=values.dtype)
                parameter.data.copy_(values.mean() + values.std(correction=0) * noise.to(values.device))

    def restore(self, layer: Layer) -> None:
        """Give a layer the parameters of the classifier again."""
        originals = dict(self.classifier.network.named_modules())
        for name in layer:
            for key, parameter in self._module(name).named_parameters(recurse=False):
                parameter.data.copy_(originals[name].get_parameter(key).data)

    def explain(self, explainer: Explainer, images: Images, targets: Targets) -> Attributions:
        """The maps that the explainer draws of the copy; its passes count as the classifier's."""
        earlier = copy.copy(self.copy.passes)
        maps = explainer(self.copy, images, targets)
        spent = self.copy.passes.since(earlier)
        self.classifier.passes.forward += spent.forward
        self.classifier.passes.backward += spent.backward
        return maps

    def _module(self, name: str) -> nn.Module:
        return self.copy.network.get_submodule(name)


def layers_of(network: nn.Module) -> list[Layer]:
    """The layers with parameters, the one nearest to the output first."""
    found: list[list[str]] = []
    opened = False
    for name, module in network.named_modules():
        shapes = [parameter.ndim for parameter in module.parameters(recurse=False)]
        has_weights = any(dimensions >= 2 for dimensions in shapes)
        if not shapes:
            continue
        if not found or (has_weights and opened):
            found.append([])
        found[-1].append(name)
        opened = opened or has_weights
    return [tuple(layer) for layer in reversed(found)]


def _copied(classifier: Classifier) -> Classifier:
    """The same classifier around a copy of its network, without what a training has attached to it."""
    twin = Classifier(
        copy.deepcopy(classifier.network),
        classifier.facts,
        name=classifier.name,
        origin=classifier.origin,
        weights_sha256=classifier.weights_sha256,
        cam_layer=classifier.cam_layer,
        influence_layer=classifier.influence_layer,
        channels_last=classifier.channels_last,
    )
    twin.folding = classifier.folding.of_copy(twin.network)
    return twin.to(classifier.mean.device).eval()


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=f"{seed} randomize".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
