"""The sufficient region: how much of an image, in the order of its map, keeps the prediction."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.core.settings import Count
from seewhy.explainers.baselines import Baseline
from seewhy.metrics.base import SHARE, ImageMetric, MetricContext, Range
from seewhy.metrics.faithfulness.pixel_flipping import compute_pixel_counts
from seewhy.metrics.perturbation_curves import Curve, find_kept


class SufficientRegion(ImageMetric):
    """Smallest share of the most relevant pixels from which on the network predicts what it predicts for the image.

    The pixels are shown in the order of the map on a baseline, pixels / n_steps at a time, and the prediction is that of
    `MetricContext.decide`: the likeliest class, the labels above the threshold, or the sign of a contrast. The size is the
    least share at which, and at every larger one, the prediction is that of the image: sizes of nested regions, so that a
    region that is calibrated on some images (`seewhy.statistics.conformal`) keeps the prediction of others. Column
    `first` is the smallest share that keeps the prediction at all. Range 0 (the baseline alone has the same
    prediction) to 1, lower is better. Of a map for another target than the prediction it is how much of the image the
    prediction needs in the order of that map. NaN where the map is not finite. In the mean rank of faithfulness it is a
    form of `insertion`, with which it shares all passes.

    Carter, Mueller, Jain, Gifford: What made you do this, understanding black-box decisions with sufficient input
    subsets, AISTATS 2019. Vovk, Gammerman, Shafer: Algorithmic learning in a random world, 2005.

    Args:
        baseline: What hidden pixels are replaced by, one of `explainers.baselines.BASELINES`.
        n_steps: Steps over all pixels of an image.

    Raises:
        UserError: If a setting is none of these.
    """

    construct = "faithfulness"
    variant_of = "insertion"
    higher_is_better = False
    columns = ("first",)
    ranges: Mapping[str, Range] = {"score": SHARE, "first": SHARE}

    def __init__(self, baseline: Baseline = "blurred", n_steps: Count = 50) -> None:
        super().__init__()
        self.baseline, self.n_steps = baseline, n_steps

    @property
    def variant(self) -> str:
        """Order, baseline and steps."""
        settings = f"{self.baseline} baseline, {self.n_steps} steps"
        return f"smallest share shown, largest first, that keeps the prediction; {settings}"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Find the sizes, with one forward pass for each image and step; those of `insertion` are shared."""
        pixels = context.images[0, 0].numel()
        counts = compute_pixel_counts(pixels, self.n_steps)
        curve = Curve("insertion", "largest", self.baseline)
        answers = find_kept(context, curve, [counts] * len(context.images))
        sizes = [_find_sizes(counts, kept) if kept else (torch.nan, torch.nan) for kept in answers]
        size, first = context.images.new_tensor(sizes).T
        return {"score": size / pixels, "first": first / pixels}


def _find_sizes(counts: list[int], kept: list[bool]) -> tuple[float, float]:
    """(the least count from which on all keep the prediction, the first count that does); the last count always does."""
    lost = [position for position, answer in enumerate(kept) if not answer]
    return float(counts[lost[-1] + 1 if lost else 0]), float(counts[kept.index(True)])
