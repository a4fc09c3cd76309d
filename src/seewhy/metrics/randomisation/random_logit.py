"""Random logit: whether the map is about its class at all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.types import Classes
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.similarity import compare_with_maps


class RandomLogit(ImageMetric):
    """Spearman's rank correlation of the map for the target with the map for a random other class.

    The class is uniform over all classes but the target. Range -1 to 1, lower is better: a map that ignores the class
    scores 1. An other map that is constant counts as 0; NaN where the map itself is constant, or a value of either is not
    finite. UserError without the explainer, and for a classifier with one class.

    Sixt, Granz, Landgraf: When explanations lie, why many modified BP attributions fail, ICML 2020 (there with SSIM).
    """

    construct = "randomisation"
    higher_is_better = False

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
