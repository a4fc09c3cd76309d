"""Efficient model randomisation: whether the map loses its structure together with the network.

A copy of a classifier whose layers can be given random parameters; the classifier itself is never touched.
Model parameter randomisation test: whether the map depends on what the network has learned.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seewhy.core.errors import UserError
from seewhy.core.types import Attributions, Images, Targets
from seewhy.explainers.base import Explainer
from seewhy.metrics.base import Evidence, ImageMetric
from seewhy.metrics.similarity import similarity
from seewhy.models.classifier import Classifier

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
        self.layers = layers_of(classifier.network)
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
            module._buffers.update(originals[name]._buffers)
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


class Kept:
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


_KEPT: WeakKeyDictionary[Classifier, Kept] = WeakKeyDictionary()


def _kept(classifier: Classifier) -> Kept:
    """What was made for this classifier before, while its modules and their hooks are the same."""
    known = _KEPT.get(classifier)
    if known is None or known.modules != _modules(classifier):
        known = _KEPT[classifier] = Kept(classifier)
    else:
        known.twin.folding = classifier.folding.of_copy(known.twin.network)
    return known


def _modules(classifier: Classifier) -> list[tuple[object, ...]]:
    """Names, identities and hooks of the modules, and where they are."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    found: list[tuple[object, ...]] = [(classifier.mean.device,)]
    for name, module in classifier.network.named_modules():
        found.append((name, id(module), *(tuple(getattr(module, hook)) for hook in hooks)))
    return found


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
    twin.folding = classifier.folding.of_copy(twin.network)
    return twin.to(classifier.mean.device).eval()


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=f"{seed} randomize".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


ORDERS = ("cascading", "independent")


class ModelRandomization(ImageMetric):
    """Mean over steps of Spearman's rank correlation of the map with that of a network with randomised layers.

    `order=cascading`: each step randomises more layers, from the output to the image, in the last step all;
    `independent`: each step one layer alone. `n_layers` steps, evenly spread over the layers (null: each layer). A layer's
    parameters are drawn from normal distributions with their own mean and standard deviation, on a copy.

    From -1 to 1, lower is better: a map that ignores the parameters scores 1. The column `last` is the correlation in
    the last step (the whole network, or the layer nearest to the image). A randomised map that is constant counts as
    0; NaN where the map itself is constant, or a value is not finite. UserError without the explainer.
    Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim: Sanity checks for saliency maps, NeurIPS 2018.
    """

    higher_is_better = False
    columns = ("last",)

    def __init__(self, order: str = "cascading", n_layers: int | None = 8) -> None:
        super().__init__()
        if order not in ORDERS:
            raise UserError(f"metric.model_randomization.order={order!r} is none of {', '.join(ORDERS)}")
        if n_layers is not None and n_layers < 1:
            raise UserError(f"metric.model_randomization.n_layers={n_layers} must be null (all) or at least 1")
        self.order, self.n_layers = order, n_layers

    @property
    def name(self) -> str:
        """`model_randomization`, followed by the order where it is not cascading."""
        return "model_randomization" if self.order == "cascading" else f"model_randomization_{self.order}"

    @property
    def variant(self) -> str:
        """Order, steps and similarity."""
        steps = "all layers" if self.n_layers is None else f"up to {self.n_layers} steps"
        way = "from the output to the image" if self.order == "cascading" else "one layer at a time"
        return f"{self.order}, {way}, {steps}; mean Spearman rank correlation of the signed maps"

    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """One explanation for each image and step."""
        steps = self._cascade(evidence) if self.order == "cascading" else self._one_by_one(evidence)
        found = torch.stack([similarity(evidence, maps) for maps in steps])
        return {"score": found.mean(0), "last": found[-1]}

    def _cascade(self, evidence: Evidence) -> Iterator[Attributions]:
        network = RandomizedNetwork(evidence.classifier, evidence.seed, fixed=True)
        count, done = len(network.layers), 0
        steps = min(self.n_layers or count, count)
        for step in range(1, steps):
            stop = round(step * count / steps)
            network.randomize(*network.layers[done:stop])
            done = stop
            yield network.explain(evidence.need_explainer(self.name), evidence.images, evidence.targets)
        yield fully_randomized_maps(evidence, self.name)

    def _one_by_one(self, evidence: Evidence) -> Iterator[Attributions]:
        network = RandomizedNetwork(evidence.classifier, evidence.seed, fixed=True)
        count = len(network.layers)
        steps = min(self.n_layers or count, count)
        for position in torch.linspace(0 if steps > 1 else count - 1, count - 1, steps).round().int().tolist():
            layer = network.layers[position]
            network.randomize(layer)
            yield network.explain(evidence.need_explainer(self.name), evidence.images, evidence.targets)
            network.restore(layer)


def fully_randomized_maps(evidence: Evidence, metric: str) -> Attributions:
    """The maps of the network with all parameters randomised, made once for the batch."""
    explainer = evidence.need_explainer(metric)

    def measure() -> Attributions:
        network = RandomizedNetwork(evidence.classifier, evidence.seed, fixed=True)
        network.randomize(*network.layers)
        return network.explain(explainer, evidence.images, evidence.targets)

    return evidence.once("fully randomised maps", measure)


class EfficientModelRandomization(ImageMetric):
    """(H(map of the randomised network) - H(map)) / H(map), H the entropy of a histogram of the map's values.

    All parameters are randomised at once, as in the last step of `ModelRandomization`; `n_bins` bins of equal width from
    the smallest to the largest value. From -1 without an upper limit, higher is better: the map of a random network
    should be more complex. The column `entropy` is H(map) in nats. NaN where the map is constant, or a value of either is
    not finite; a randomised map that is constant scores -1. UserError without the explainer.
    Hedström, Weber, Lapuschkin, Höhne: Sanity checks revisited, an exploration to repair the model parameter
    randomisation test, 2024.
    """

    higher_is_better = True
    columns = ("entropy",)

    def __init__(self, n_bins: int = 100) -> None:
        super().__init__()
        if n_bins < 2:
            raise UserError(f"metric.efficient_model_randomization.n_bins={n_bins} must be at least 2")
        self.n_bins = n_bins

    @property
    def variant(self) -> str:
        """The measure of complexity and the denominator."""
        return f"relative rise of the entropy of a histogram with {self.n_bins} bins; all parameters randomised"

    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """One explanation for each image, shared with `model_randomization`."""
        randomised = fully_randomized_maps(evidence, self.name)
        before = histogram_entropy(evidence.attributions, self.n_bins)
        rise = (histogram_entropy(randomised, self.n_bins) - before) / before
        return {"score": rise.where(before > 0, torch.nan), "entropy": before}


def histogram_entropy(maps: Attributions, n_bins: int) -> Tensor:
    """Entropy in nats [batch] of the histogram of each map's values; 0 if constant, NaN if a value is not finite."""
    entropies = []
    for values in maps.double().flatten(1):
        smallest, largest = values.min(), values.max()
        if not bool((largest - smallest).isfinite()):
            entropies.append(values.new_tensor(torch.nan))
            continue
        width = (largest - smallest).where(largest > smallest, 1)
        bins = ((values - smallest) / width * n_bins).long().clamp_max(n_bins - 1)
        shares = bins.bincount(minlength=n_bins).double() / len(values)
        entropies.append(torch.special.entr(shares).sum())
    return torch.stack(entropies)
