"""Efficient model randomisation: whether the map loses its structure together with the network.

A copy of a classifier whose layers can be given random parameters; the classifier itself is never touched.
Model parameter randomisation test: whether the map depends on what the network has learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Attributions
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.randomisation.randomized_network import RandomizedNetwork
from seewhy.metrics.similarity import compare_with_maps

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

    construct = "randomisation"
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

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """One explanation for each image and step."""
        steps = self._cascade(context) if self.order == "cascading" else self._one_by_one(context)
        found = torch.stack([compare_with_maps(context, maps) for maps in steps])
        return {"score": found.mean(0), "last": found[-1]}

    def _cascade(self, context: MetricContext) -> Iterator[Attributions]:
        network = RandomizedNetwork(context.classifier, context.seed, fixed=True)
        count, done = len(network.layers), 0
        steps = min(self.n_layers or count, count)
        for step in range(1, steps):
            stop = round(step * count / steps)
            network.randomize(*network.layers[done:stop])
            done = stop
            yield network.explain(context.require_explainer(self.name), context.images, context.targets)
        yield fully_randomized_maps(context, self.name)

    def _one_by_one(self, context: MetricContext) -> Iterator[Attributions]:
        network = RandomizedNetwork(context.classifier, context.seed, fixed=True)
        count = len(network.layers)
        steps = min(self.n_layers or count, count)
        for position in torch.linspace(0 if steps > 1 else count - 1, count - 1, steps).round().int().tolist():
            layer = network.layers[position]
            network.randomize(layer)
            yield network.explain(context.require_explainer(self.name), context.images, context.targets)
            network.restore(layer)


def fully_randomized_maps(context: MetricContext, metric: str) -> Attributions:
    """The maps of the network with all parameters randomised, made once for the batch."""
    explainer = context.require_explainer(metric)

    def measure() -> Attributions:
        network = RandomizedNetwork(context.classifier, context.seed, fixed=True)
        network.randomize(*network.layers)
        return network.explain(explainer, context.images, context.targets)

    return context.compute_once("fully randomised maps", measure)


class EfficientModelRandomization(ImageMetric):
    """(H(map of the randomised network) - H(map)) / H(map), H the entropy of a histogram of the map's values.

    All parameters are randomised at once, as in the last step of `ModelRandomization`; `n_bins` bins of equal width from
    the smallest to the largest value. From -1 without an upper limit, higher is better: the map of a random network
    should be more complex. The column `entropy` is H(map) in nats. NaN where the map is constant, or a value of either is
    not finite; a randomised map that is constant scores -1. UserError without the explainer.
    Hedström, Weber, Lapuschkin, Höhne: Sanity checks revisited, an exploration to repair the model parameter
    randomisation test, 2024.
    """

    construct = "randomisation"
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

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """One explanation for each image, shared with `model_randomization`."""
        randomised = fully_randomized_maps(context, self.name)
        before = histogram_entropy(context.attributions, self.n_bins)
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
