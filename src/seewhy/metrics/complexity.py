"""Complexity: how many pixels a reader has to look at."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.metrics.base import AMOUNT, SHARE, ImageMetric, MetricContext, Range


class Complexity(ImageMetric):
    """Entropy -sum p ln p of the pixels' shares p = |a| / sum |a| in the absolute attributions, in nats.

    Range 0 (all in one pixel) to ln d (the same in each of the d pixels); lower is better, and says nothing of whether
    it is the right pixel. NaN for a map of zeros and where a value is not finite.

    Bhatt, Weller, Moura: Evaluating and aggregating feature-based model explanations, IJCAI 2020.
    """

    construct = "complexity"
    higher_is_better = False
    ranges: Mapping[str, Range] = {"score": AMOUNT}

    @property
    def variant(self) -> str:
        """What the entropy is taken of."""
        return "entropy in nats of the shares that the pixels have in the sum of absolute attributions"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compute the entropy, without any pass."""
        magnitudes = context.attributions.double().abs().flatten(1)
        entropy = torch.special.entr(magnitudes / magnitudes.sum(1, keepdim=True)).sum(1)
        return {"score": entropy.where(context.replace_non_finite()[1], torch.nan)}


class Sparseness(ImageMetric):
    """Gini coefficient of |a|: sum over k of (2k - d - 1) |a|_(k) / (d sum |a|), for the d pixels in ascending order.

    Range 0 (the same everywhere) to 1 - 1/d (all in one pixel); higher is better, and says nothing of whether it is the
    right pixel. NaN for a map of zeros and where a value is not finite.

    Chalasani, Chen, Chowdhury, Jha, Wu: Concise explanations of neural networks using adversarial training, ICML 2020.
    """

    construct = "complexity"
    higher_is_better = True
    ranges: Mapping[str, Range] = {"score": SHARE}

    @property
    def variant(self) -> str:
        """What the coefficient is taken of."""
        return "Gini coefficient of the absolute attributions of all pixels"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compute the coefficient, without any pass."""
        ascending = context.attributions.double().abs().flatten(1).sort(1).values
        pixels = ascending.shape[1]
        ranks = torch.arange(1, pixels + 1, device=ascending.device, dtype=ascending.dtype)
        gini = (ascending * (2 * ranks - pixels - 1)).sum(1) / (pixels * ascending.sum(1))
        return {"score": gini.where(context.replace_non_finite()[1], torch.nan)}
