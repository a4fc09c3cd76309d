"""A copy of a classifier whose layers can be given random parameters."""

from __future__ import annotations

import copy
import hashlib
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seewhy.core.types import Attributions, Images, Targets
from seewhy.explainers.base import Explainer
from seewhy.models.classifier import Classifier
from seewhy.models.fusion.internals import list_hooks

Layer = tuple[str, ...]
"""The modules that are randomised together: one with weights, and normalisations that follow it."""


class RandomizedNetwork:
    """`layers` lists the layers of the copy, the one nearest to the output first.

    A layer is a module with a parameter of two or more dimensions, in the order of definition, together with the modules
    behind it whose parameters are vectors (normalisations). To randomise it is to draw each of its parameters anew from a
    normal distribution with that parameter's own mean and standard deviation; the numbers belong to (seed, name).
    `fixed`: the classifier's parameters stay the same as long as this object is used, and need not be looked at again.
    """

    def __init__(self, classifier: Classifier, seed: int, fixed: bool = False) -> None:
        self.classifier = classifier
        self.seed = seed
        self.fixed = fixed
        self.layers = list_layers(classifier.network)
        self.random: set[str] = set()
        """Names of the modules with random parameters."""
        self._drawn: dict[str, Tensor] = {}

    def randomize(self, *layers: Layer) -> None:
        """Draw the parameters of these layers anew."""
        self.random.update(*layers)

    def restore(self, layer: Layer) -> None:
        """Give a layer the parameters of the classifier again."""
        self.random.difference_update(layer)

    @property
    def copy(self) -> Classifier:
        """The copy with its parameters as they are to be now; the next network's copy may be the same one."""
        known = _kept(self.classifier)
        originals, modules = (dict(each.network.named_modules()) for each in (self.classifier, known.twin))
        for name, module in modules.items():
            for key, buffer in originals[name].named_buffers(recurse=False):
                setattr(module, key, buffer)
            for key, parameter in module.named_parameters(recurse=False):
                parameter.data = originals[name].get_parameter(key).data
        for name in sorted(self.random & modules.keys()):
            for key, parameter in modules[name].named_parameters(recurse=False):
                full = f"{name}.{key}"
                if not self.fixed or full not in self._drawn:
                    self._drawn[full] = known.drawn(self.seed, full, originals[name].get_parameter(key).data)
                parameter.data = self._drawn[full]
        return known.twin

    def explain(self, explainer: Explainer, images: Images, targets: Targets) -> Attributions:
        """The maps that the explainer draws of the copy; its passes count as the classifier's."""
        twin = self.copy
        earlier = copy.copy(twin.passes)
        maps = explainer(twin, images, targets)
        spent = twin.passes.since(earlier)
        self.classifier.passes.forward += spent.forward
        self.classifier.passes.backward += spent.backward
        return maps


class TwinCache:
    """A copy of a classifier, and the random parameters that were drawn for it: as many numbers as it has parameters."""

    def __init__(self, classifier: Classifier) -> None:
        self.modules = _modules(classifier)
        self.twin = _copied(classifier)
        self._seed: int | None = None
        self._drawn: dict[str, tuple[tuple[float, float], Tensor]] = {}

    def drawn(self, seed: int, name: str, original: Tensor) -> Tensor:
        """A parameter drawn anew, unless it was drawn before with this seed, mean and standard deviation."""
        if seed != self._seed:
            self._seed, self._drawn = seed, {}
        values = original.double()
        moments = float(values.mean()), float(values.std(correction=0))
        if name not in self._drawn or self._drawn[name][0] != moments:
            noise = torch.randn(values.shape, generator=_generator(seed, name), dtype=values.dtype)
            self._drawn[name] = moments, (moments[0] + moments[1] * noise).to(original)
        return self._drawn[name][1]


_KEPT: WeakKeyDictionary[Classifier, TwinCache] = WeakKeyDictionary()


def _kept(classifier: Classifier) -> TwinCache:
    """What was made for this classifier before, while its modules and their hooks are the same."""
    known = _KEPT.get(classifier)
    if known is None or known.modules != _modules(classifier):
        known = _KEPT[classifier] = TwinCache(classifier)
    else:
        known.twin.folding = classifier.folding.copy_to(known.twin.network)
    return known


def _modules(classifier: Classifier) -> list[tuple[object, ...]]:
    """Names, identities and hooks of the modules, and where they are."""
    found: list[tuple[object, ...]] = [(classifier.mean.device,)]
    for name, module in classifier.network.named_modules():
        found.append((name, id(module), *(tuple(hooks) for hooks in list_hooks(module))))
    return found


def list_layers(network: nn.Module) -> list[Layer]:
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
    """The same classifier around a copy of its network, without what a training has attached to it.

    The copy reads the classifier's own numbers: it never writes any.
    """
    tensors = [*classifier.network.parameters(), *classifier.network.buffers()]
    shared = {id(each): nn.Parameter(each.data, False) if isinstance(each, nn.Parameter) else each for each in tensors}
    twin = Classifier(
        copy.deepcopy(classifier.network, shared),
        classifier.facts,
        name=classifier.name,
        origin=classifier.origin,
        weights_sha256=classifier.weights_sha256,
        cam_layer=classifier.cam_layer,
        influence_layer=classifier.influence_layer,
        channels_last=classifier.channels_last,
    )
    twin.folding = classifier.folding.copy_to(twin.network)
    return twin.to(classifier.mean.device).eval()


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=f"{seed} randomize".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
