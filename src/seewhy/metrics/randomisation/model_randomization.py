"""Does the map depend on what was learned, and on its class: randomised weights and random logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.settings import Count, CountFrom2, OneOf
from seewhy.core.types import Attributions, Classes
from seewhy.metrics.base import AMOUNT, CORRELATION, SHARE, Draws, ImageMetric, MetricContext, Range
from seewhy.metrics.randomisation.randomized_network import RandomizedNetwork
from seewhy.metrics.similarity import compare_with_maps

ORDERS = ("cascading", "independent")


class RandomizationMetric(ImageMetric):
    """A metric that explains networks with random parameters, the same networks for all images.

    All are forms of one test, of which `model_randomization`, the network with every parameter random, counts in the mean
    rank of randomisation: cascades leave much of the network as it is, and the rise of the entropy compares no places.

    Args:
        n_draws: Random networks; their spread is in the interval of the mean over images.
        columns: Beside the score and the draws.
    """

    construct = "randomisation"
    variant_of = "model_randomization"

    def __init__(self, n_draws: int, columns: tuple[str, ...] = ()) -> None:
        self.draw_columns = tuple(f"draw_{number}" for number in range(1, n_draws + 1))
        self.columns = (*columns, *self.draw_columns)
        super().__init__()
        self.n_draws = n_draws

    @property
    def draws(self) -> Mapping[str, Draws]:
        """The score under each random network."""
        return {"score": Draws(self.draw_columns)}

    def name_draws(self, values: Tensor) -> dict[str, Tensor]:
        """Name the values [draws, batch] of each random network."""
        return dict(zip(self.draw_columns, values, strict=True))


class ModelRandomization(RandomizationMetric):
    """Mean over random networks of |Spearman's rank correlation| of the map with the map of that network.

    All parameters of the network are drawn from normal distributions with their own mean and standard deviation, on a
    copy. Range 0 to 1, lower is better: a map that ignores the parameters scores 1, and so does one that is reversed.
    Column `signed` is the mean of the correlations themselves, from -1 to 1; `draw_1` and so on are the correlations with
    each network. A randomised map that is constant counts as 0; NaN where the map itself is constant, or a value is not
    finite. UserError without the explainer.

    Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim: Sanity checks for saliency maps, NeurIPS 2018.

    Args:
        n_draws: Random networks, each one explanation of every image.
        passes: Most passes of a run for these explanations: a dearer method is measured on fewer images, spread evenly over
            the data and at least ten; null: on all.

    Raises:
        UserError: If there are none.
    """

    higher_is_better = False
    ranges: Mapping[str, Range] = {"score": SHARE, "signed": CORRELATION}

    def __init__(self, n_draws: Count = 5, passes: Count | None = None) -> None:
        super().__init__(n_draws, ("signed",))
        self.explanations, self.passes = n_draws, passes

    @property
    def variant(self) -> str:
        """Draws and similarity."""
        return (
            f"all parameters random, {self.n_draws} draws; mean absolute Spearman rank correlation of the signed maps"
        )

    @property
    def draws(self) -> Mapping[str, Draws]:
        """Score and `signed` under each random network."""
        return {"score": Draws(self.draw_columns, absolute=True), "signed": Draws(self.draw_columns)}

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compare the maps, with `n_draws` explanations of each image, shared with `efficient_model_randomization`."""
        maps = (explain_random_network(context, self.name, draw) for draw in range(self.n_draws))
        similarities = torch.stack([compare_with_maps(context, each) for each in maps])
        averages = {"score": similarities.abs().mean(0), "signed": similarities.mean(0)}
        return averages | self.name_draws(similarities)


class LayerRandomization(RandomizationMetric):
    """Mean over steps of |Spearman's rank correlation| of the map with that of a network with some random layers.

    `cascading`: the curve of Adebayo et al.: step i of n randomises i / n of the layers, from the output to the image, in
    the last step all. `independent`: each step one layer alone, evenly spread over the network. Layers are randomised as
    in `ModelRandomization`. Range 0 to 1, lower is better; the first steps of a cascade leave most of the network as it is
    and raise the mean. Columns `step_1` and so on are the signed correlations in each step, the mean over the draws;
    `draw_1` and so on the scores of each draw. A randomised map that is constant counts as 0; NaN where the map itself is
    constant, or a value is not finite. UserError without the explainer.

    Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim: Sanity checks for saliency maps, NeurIPS 2018.

    Args:
        order: `cascading` or `independent`.
        n_layers: Steps, each one explanation of every image and draw; null: every layer, without the columns `step_i`.
        n_draws: Random networks.

    Raises:
        UserError: If a setting is none of these.
    """

    higher_is_better = False

    def __init__(
        self, order: Annotated[str, OneOf(ORDERS)] = "cascading", n_layers: Count | None = 8, n_draws: Count = 1
    ) -> None:
        self.order, self.n_layers = order, n_layers
        self.step_columns = tuple(f"step_{number}" for number in range(1, (n_layers or 0) + 1))
        self.ranges = {"score": SHARE} | dict.fromkeys(self.step_columns, CORRELATION)
        super().__init__(n_draws, self.step_columns)

    @property
    def name(self) -> str:
        """`model_randomization`, followed by the order."""
        return f"model_randomization_{self.order}"

    @property
    def variant(self) -> str:
        """Order, steps, draws and similarity."""
        steps = "all layers" if self.n_layers is None else f"{self.n_layers} steps"
        way = "from the output to the image" if self.order == "cascading" else "one layer at a time"
        draws = f"{self.n_draws} draw{'s' * (self.n_draws > 1)}"
        return f"{self.order}, {way}, {steps}, {draws}; mean absolute Spearman rank correlation of the signed maps"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compare the maps of every step and draw."""
        curves = torch.stack([torch.stack(list(self._compute_curve(context, draw))) for draw in range(self.n_draws)])
        scores = curves.abs().mean(1)
        steps = dict(zip(self.step_columns, curves.mean(0), strict=False))
        return {"score": scores.mean(0)} | steps | self.name_draws(scores)

    def _compute_curve(self, context: MetricContext, draw: int) -> Iterator[Tensor]:
        """The similarity [batch] in each step; steps with the same layers are explained once."""
        network = RandomizedNetwork(context.classifier, context.seed, draw, fixed=True)
        explainer = context.require_explainer(self.name)
        bounds, similarity = (0, 0), torch.empty(0)
        for start, stop in self._list_steps(len(network.layers)):
            if (start, stop) != bounds:
                network.restore(*network.layers)
                network.randomize(*network.layers[start:stop])
                if stop - start == len(network.layers):
                    maps = explain_random_network(context, self.name, draw)
                else:
                    maps = network.explain(explainer, context.images, context.targets)
                bounds, similarity = (start, stop), compare_with_maps(context, maps)
            yield similarity

    def _list_steps(self, count: int) -> list[tuple[int, int]]:
        """(first layer, the layer after the last) of each step, for a network with `count` layers."""
        steps = self.n_layers or count
        if self.order == "cascading":
            return [(0, max(1, round(step * count / steps))) for step in range(1, steps + 1)]
        positions = torch.linspace(0 if steps > 1 else count - 1, count - 1, steps).round().int().tolist()
        return [(position, position + 1) for position in positions]


class EfficientModelRandomization(RandomizationMetric):
    """(H(map of the random network) - H(map)) / H(map), H the entropy of a histogram of the map's values.

    The mean over random networks, all of whose parameters are random as in `ModelRandomization`; the histogram has bins of
    equal width from the smallest to the largest value. From -1 without an upper limit, higher is better: the map of a
    random network should be more complex. Column `entropy` is H(map) in nats; `draw_1` and so on are the rises under each
    network. NaN where the map is constant, or a value of either is not finite; a randomised map that is constant scores
    -1. UserError without the explainer.

    Hedström, Weber, Lapuschkin, Höhne: Sanity checks revisited, an exploration to repair the model parameter
    randomisation test, 2024.

    Args:
        n_bins: Of the histogram, from 2.
        n_draws: Random networks, each one explanation of every image.
        passes: Most passes of a run for these explanations: a dearer method is measured on fewer images, spread evenly over
            the data and at least ten; null: on all.

    Raises:
        UserError: If a setting is too small.
    """

    higher_is_better = True
    ranges: Mapping[str, Range] = {"score": Range(-1), "entropy": AMOUNT}

    def __init__(self, n_bins: CountFrom2 = 100, n_draws: Count = 5, passes: Count | None = None) -> None:
        super().__init__(n_draws, ("entropy",))
        self.n_bins, self.explanations, self.passes = n_bins, n_draws, passes

    @property
    def variant(self) -> str:
        """The measure of complexity, the denominator and the draws."""
        rise = f"relative rise of the entropy of a histogram with {self.n_bins} bins"
        return f"{rise}; all parameters random, {self.n_draws} draws"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compare the entropies, with `n_draws` explanations of each image, shared with `model_randomization`."""
        before = compute_histogram_entropy(context.attributions, self.n_bins)
        maps = (explain_random_network(context, self.name, draw) for draw in range(self.n_draws))
        after = torch.stack([compute_histogram_entropy(each, self.n_bins) for each in maps])
        rises = ((after - before) / before).where(before > 0, torch.nan)
        return {"score": rises.mean(0), "entropy": before} | self.name_draws(rises)


def explain_random_network(context: MetricContext, metric: str, draw: int) -> Attributions:
    """Explain the network with all parameters randomised, once for the batch.

    Args:
        context: The batch.
        metric: What needs the explainer, for the message without.
        draw: The number of the random network.

    Returns:
        The maps float32 [batch, height, width].
    """
    explainer = context.require_explainer(metric)

    def explain() -> Attributions:
        network = context.compute_once(
            "random network", lambda: RandomizedNetwork(context.classifier, context.seed, fixed=True)
        )
        network.begin(draw)
        network.randomize(*network.layers)
        return network.explain(explainer, context.images, context.targets)

    return context.compute_once(("maps of the random network", draw), explain)


def compute_histogram_entropy(maps: Attributions, n_bins: int) -> Tensor:
    """Compute the entropy of the histogram of each map's values.

    Args:
        maps: [batch, height, width].
        n_bins: Bins of equal width from the smallest to the largest value of each map.

    Returns:
        float64 [batch] in nats; 0 for a constant map, NaN if a value is not finite.
    """
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


class RandomLogit(ImageMetric):
    """Spearman's rank correlation of the map for the target with the map for a random other class.

    The class is uniform over all classes but the target. Range -1 to 1, lower is better: a map that ignores the class
    scores 1. An other map that is constant counts as 0; NaN where the map itself is constant, or a value of either is not
    finite. UserError without the explainer, and for a classifier with one class.

    Sixt, Granz, Landgraf: When explanations lie, why many modified BP attributions fail, ICML 2020 (there with SSIM).
    """

    construct = "randomisation"
    higher_is_better = False
    ranges: Mapping[str, Range] = {"score": CORRELATION}

    @property
    def variant(self) -> str:
        """Similarity and the choice of the class."""
        return "Spearman rank correlation of the signed maps of the target and of one random other class"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compare the maps, with one more explanation for each image."""
        explainer = context.require_explainer(self.name)
        other = explainer(context.classifier, context.images, draw_other_classes(context))
        return {"score": compare_with_maps(context, other)}


def draw_other_classes(context: MetricContext) -> Classes:
    """Draw a random class for each image that is not its target.

    Args:
        context: The batch.

    Returns:
        int64 [batch].

    Raises:
        UserError: If the classifier has a single class.
    """
    count = len(context.classifier.facts.classes)
    if count < 2:
        raise UserError("random_logit compares with another class: the network has only one; leave the metric out")
    generators = [seed_generator(context.seed, image, "random logit") for image in context.images]
    drawn = torch.cat([torch.randint(count - 1, (1,), generator=generator) for generator in generators])
    targets = context.targets.classes
    drawn = drawn.to(targets)
    return drawn + (drawn >= targets).to(drawn)
