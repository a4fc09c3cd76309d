"""Faithfulness correlation and sensitivity-n: whether pixels that add up to more also cost the score more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seewhy.core.errors import UserError, check_choice
from seewhy.explainers.baselines import BASELINES
from seewhy.metrics.base import ImageMetric, MetricContext, check_count, check_shares
from seewhy.metrics.faithfulness.disturbance import remove_subsets
from seewhy.metrics.similarity import compute_pearson

SHARES = (0.01, 0.03, 0.1, 0.3, 0.8)
"""Default sizes of the sets of `SensitivityN`."""


class FaithfulnessCorrelation(ImageMetric):
    """Pearson's correlation over random sets S of sum over S of the map and f(x) - f(x with S at the baseline).

    All sets have the same size; f is the target's logit; a pixel is removed in all channels. Range -1 to 1, higher is
    better. NaN where the sums or the drops do not vary (a constant map, a score that does not depend on the image) and
    where a value of the map is not finite.

    Bhatt, Weller, Moura: Evaluating and aggregating feature-based model explanations, IJCAI 2020.

    Args:
        n_samples: Sets for each image, from 2.
        share: Of the pixels in each set, between 0 and 1.
        baseline: What removed pixels are replaced by, one of `explainers.baselines.BASELINES`.

    Raises:
        UserError: If a setting is none of these.
    """

    construct = "faithfulness"
    higher_is_better = True

    def __init__(self, n_samples: int = 100, share: float = 0.1, baseline: str = "black") -> None:
        super().__init__()
        check_count("metric.faithfulness_correlation.n_samples", n_samples, least=2)
        check_choice("metric.faithfulness_correlation.baseline", baseline, BASELINES)
        if not 0 < share < 1:
            raise UserError(f"metric.faithfulness_correlation.share={share} must be between 0 and 1, such as 0.1")
        self.n_samples, self.share, self.baseline = n_samples, share, baseline

    @property
    def variant(self) -> str:
        """Sets, samples, baseline and score space."""
        return (
            f"Pearson over {self.n_samples} random sets of {100 * self.share:g} % of the pixels; "
            f"removed: {self.baseline}; score: logit"
        )

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Correlate, with `n_samples` passes for each image, shared with `sensitivity_n` where it has the same share."""
        size = count_removed_pixels(self.share, context.attributions[0].numel())
        subsets = remove_subsets(context, size, self.n_samples, self.baseline)
        return {"score": compute_pearson(subsets.sums, subsets.drops)}


class SensitivityN(ImageMetric):
    """Mean over n of Pearson's correlation of sum over S of the map and f(x) - f(x with S at the baseline), |S| = n.

    For each n there are `n_samples` random sets S; f is the target's logit; a pixel is removed in all channels. Range -1
    to 1, higher is better; 1 for every n means that the map adds up as the network does. Sizes at which the drops do not
    vary are left out; NaN where that is all of them, for a constant map, and where a value of the map is not finite.

    Ancona, Ceolini, Öztireli, Gross: Towards better understanding of gradient-based attribution methods for deep neural
    networks, ICLR 2018.

    Args:
        n_samples: Sets for each image and size, from 2.
        shares: The sizes n as shares of the pixels, each between 0 and 1.
        baseline: What removed pixels are replaced by, one of `explainers.baselines.BASELINES`.

    Raises:
        UserError: If a setting is none of these.
    """

    construct = "faithfulness"
    higher_is_better = True

    def __init__(self, n_samples: int = 100, shares: Sequence[float] = SHARES, baseline: str = "black") -> None:
        super().__init__()
        check_count("metric.sensitivity_n.n_samples", n_samples, least=2)
        check_choice("metric.sensitivity_n.baseline", baseline, BASELINES)
        check_shares("metric.sensitivity_n.shares", shares)
        self.n_samples, self.shares, self.baseline = n_samples, tuple(shares), baseline

    @property
    def variant(self) -> str:
        """Sizes, samples, baseline and score space."""
        sizes = ", ".join(f"{100 * share:g}" for share in self.shares)
        return (
            f"mean Pearson over n = {sizes} % of the pixels, {self.n_samples} random sets each; "
            f"removed: {self.baseline}; score: logit"
        )

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Average the correlations, with `n_samples` forward passes for each image and size."""
        pixels = context.attributions[0].numel()
        sizes = sorted({count_removed_pixels(share, pixels) for share in self.shares})
        subsets = [remove_subsets(context, size, self.n_samples, self.baseline) for size in sizes]
        return {"score": torch.stack([compute_pearson(each.sums, each.drops) for each in subsets]).nanmean(0)}


def count_removed_pixels(share: float, pixels: int) -> int:
    """Count the pixels of a set.

    Args:
        share: Of all pixels.
        pixels: Of the image.

    Returns:
        That share, rounded; at least one and not all.
    """
    return max(1, min(pixels - 1, round(share * pixels)))
