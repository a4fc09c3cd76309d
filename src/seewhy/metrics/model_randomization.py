"""Model parameter randomisation test: whether the map depends on what the network has learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from seewhy.errors import UserError
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.correlation import similarity
from seewhy.metrics.evidence import Evidence
from seewhy.metrics.randomized_network import RandomizedNetwork
from seewhy.types import Attributions

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
