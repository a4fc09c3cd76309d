"""A copy of a classifier whose layers can be given random parameters."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from seewhy.core.types import Attributions, Images, Targets
from seewhy.models.classifier import Classifier
from seewhy.models.fusion.internals import list_hooks, share_buffers

if TYPE_CHECKING:
    from seewhy.explainers.base import Explainer

Layer: TypeAlias = tuple[str, ...]
"""Names of the modules that are randomised together: the module with weights, and normalisations that follow it."""
Moments: TypeAlias = tuple[float, float]
"""Mean and standard deviation of a parameter."""
CACHED = 2**25
"""Random parameters that are cached for a classifier (128 MiB): those of larger networks are drawn again each time."""

BLOCK = 2**16
"""Numbers that are drawn in one call."""


class RandomizedNetwork:
    """A copy of a classifier with random parameters in some layers; the classifier itself is never touched.

    A layer is a module with a parameter of two or more dimensions, in the order of definition, together with the modules
    behind it whose parameters are vectors (normalisations). To randomise it is to draw each of its parameters anew from a
    normal distribution with that parameter's own mean and standard deviation; the numbers belong to (seed, draw, name).

    Args:
        classifier: What is copied; its parameters may change between two uses, unless `fixed`.
        seed: Decides the random parameters.
        draw: The number of this network among several of the same seed.
        fixed: The classifier's parameters stay the same as long as this object is used, and are looked at once.
    """

    def __init__(self, classifier: Classifier, seed: int, draw: int = 0, fixed: bool = False) -> None:
        self.classifier = classifier
        self.seed = seed
        self.fixed = fixed
        self.layers = list_layers(classifier.network)
        """The layers of the copy, the one nearest to the output first."""
        self.random: set[str] = set()
        """Names of the modules with random parameters."""
        self._cache: TwinCache | None = None
        self._moments: dict[str, Moments] = {}
        self.begin(draw)

    def begin(self, draw: int) -> None:
        """Take the numbers of another draw from now on.

        Args:
            draw: Its number.
        """
        self.stream = f"{self.seed} randomize {draw}"
        self._drawn: dict[str, Tensor] = {}

    def randomize(self, *layers: Layer) -> None:
        """Draw the parameters of these layers anew."""
        self.random.update(*layers)

    def restore(self, *layers: Layer) -> None:
        """Give these layers the parameters of the classifier again."""
        self.random.difference_update(*layers)

    @property
    def copy(self) -> Classifier:
        """The copy with its parameters as they are to be now; the next network's copy may be the same object."""
        cache = self._cache
        if cache is None or not self.fixed:
            cache = self._cache = _find_cache(self.classifier)
        for original, module in cache.pairs.values():
            share_buffers(original, module)
        originals = [cache.pairs[name][0].get_parameter(key).data for name, key, _ in cache.parameters]
        for (_, _, parameter), values in zip(cache.parameters, originals, strict=True):
            parameter.data = values
        for (name, key, parameter), values in zip(cache.parameters, originals, strict=True):
            if name not in self.random:
                continue
            full = f"{name}.{key}"
            if not self.fixed or full not in self._drawn:
                moments = self._moments.get(full) if self.fixed else None
                self._moments[full] = moments or measure_moments(values)
                self._drawn[full] = cache.draw(self.stream, full, values, self._moments[full])
            parameter.data = self._drawn[full]  # also where another module, whose parameters stay, shares it
        return cache.twin

    def explain(self, explainer: Explainer, images: Images, targets: Targets) -> Attributions:
        """Explain the copy in the precision of the classifier's passes; its own count as the classifier's.

        Args:
            explainer: Any method.
            images: float32 [batch, channels, height, width] in [0, 1].
            targets: int64 [batch].

        Returns:
            The maps float32 [batch, height, width].
        """
        twin = self.copy
        before = copy.copy(twin.passes)
        with self.classifier.sharing_precision():
            maps = explainer(twin, images, targets)
        spent = twin.passes.since(before)
        self.classifier.passes.forward += spent.forward
        self.classifier.passes.backward += spent.backward
        return maps


class TwinCache:
    """A copy of a classifier, and random parameters that were drawn for it, as far as they are few.

    Attributes:
        twin: The copy.
        pairs: Each module and its copy, by name.
        parameters: (module's name, parameter's name, parameter of the copy).
    """

    def __init__(self, classifier: Classifier) -> None:
        self.modules = _describe_modules(classifier)
        self.twin = _copy_classifier(classifier)
        copies = dict(self.twin.network.named_modules())
        self.pairs = {name: (module, copies[name]) for name, module in classifier.network.named_modules()}
        self.parameters = [
            (name, key, parameter)
            for name, (_, module) in sorted(self.pairs.items())
            for key, parameter in module.named_parameters(recurse=False)
        ]
        self._drawn: dict[tuple[str, str], tuple[Moments, Tensor]] = {}
        self._numbers = 0

    def draw(self, stream: str, name: str, original: Tensor, moments: Moments | None = None) -> Tensor:
        """Draw a parameter anew, unless it was drawn before with this stream and these moments, its own for None."""
        moments = moments or measure_moments(original)
        drawn = self._drawn.get((stream, name))
        if drawn is None or drawn[0] != moments or (drawn[1].dtype, drawn[1].shape) != (original.dtype, original.shape):
            drawn = moments, draw_normal(original, _build_generator(stream, name), moments)
            new = 0 if (stream, name) in self._drawn else original.numel()
            if self._numbers + new <= CACHED:
                self._numbers += new
                self._drawn[stream, name] = drawn
        return drawn[1]


def draw_normal(like: Tensor, generator: np.random.Generator, moments: Moments) -> Tensor:
    """Draw numbers of a normal distribution, of which a block at a time is in memory beside the result.

    Args:
        like: The tensor whose shape, type and device the result has.
        generator: Draws float32 numbers whatever the type is; it takes a third of the time of torch's.
        moments: Mean and standard deviation.

    Returns:
        The numbers, rounded to the type of `like`.
    """
    mean, deviation = moments
    wide = torch.promote_types(like.dtype, torch.float32)  # half types are rounded once
    drawn = torch.empty(like.shape, dtype=like.dtype)
    flat = drawn.view(-1)
    for start in range(0, len(flat), BLOCK):
        noise = generator.standard_normal(min(BLOCK, len(flat) - start), dtype=np.float32)
        flat[start : start + BLOCK] = torch.from_numpy(noise).to(wide).mul_(deviation).add_(mean)
    return drawn.to(like.device)


def measure_moments(values: Tensor) -> Moments:
    """Measure the mean and the standard deviation of a parameter."""
    values = values.double()
    return float(values.mean()), float(values.std(correction=0))


_CACHES: WeakKeyDictionary[Classifier, TwinCache] = WeakKeyDictionary()


def list_layers(network: nn.Module) -> list[Layer]:
    """List the layers with parameters, the one nearest to the output first."""
    layers: list[list[str]] = []
    opened = False
    for name, module in network.named_modules():
        shapes = [parameter.ndim for parameter in module.parameters(recurse=False)]
        has_weights = any(dimensions >= 2 for dimensions in shapes)
        if not shapes:
            continue
        if not layers or (has_weights and opened):
            layers.append([])
        layers[-1].append(name)
        opened = opened or has_weights
    return [tuple(layer) for layer in reversed(layers)]


def _find_cache(classifier: Classifier) -> TwinCache:
    """The cache of this classifier while its modules and their hooks are the same, else a new one."""
    cache = _CACHES.get(classifier)
    if cache is None or cache.modules != _describe_modules(classifier):
        cache = _CACHES[classifier] = TwinCache(classifier)
    else:
        cache.twin.folding = classifier.folding.copy_to(cache.twin.network)
    return cache


def _describe_modules(classifier: Classifier) -> list[tuple[object, ...]]:
    """Device, and names, identities and hooks of the modules."""
    modules: list[tuple[object, ...]] = [(classifier.mean.device,)]
    for name, module in classifier.network.named_modules():
        modules.append((name, id(module), *(tuple(hooks) for hooks in list_hooks(module))))
    return modules


def _copy_classifier(classifier: Classifier) -> Classifier:
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
    twin.batch_sizes = classifier.batch_sizes
    twin.folding = classifier.folding.copy_to(twin.network)
    return twin.to(classifier.mean.device).eval()


def _build_generator(stream: str, name: str) -> np.random.Generator:
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=stream.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
