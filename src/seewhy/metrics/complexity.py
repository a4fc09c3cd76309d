"""Complexity: how many pixels a reader has to look at.

Sparseness: how few pixels hold the attribution.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.metrics.base import ImageMetric, MetricContext


class Complexity(ImageMetric):
    """Entropy -sum p ln p of p = |a| / sum |a|, in nats.

    From 0 (all in one pixel) to ln d (the same in each of the d pixels); lower is better, and says nothing of whether it
    is the right pixel. NaN for a map of zeros and where a value is not finite.
    Bhatt, Weller, Moura: Evaluating and aggregating feature-based model explanations, IJCAI 2020.
    """

    higher_is_better = False

    @property
    def variant(self) -> str:
        """What the entropy is taken of."""
        return "entropy in nats of the shares that the pixels have in the sum of absolute attributions"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Without any pass."""
        sizes = context.attributions.double().abs().flatten(1)
        entropy = torch.special.entr(sizes / sizes.sum(1, keepdim=True)).sum(1)
        return {"score": entropy.where(context.replace_non_finite()[1], torch.nan)}


class Sparseness(ImageMetric):
    """Gini coefficient of |a|: sum over k of (2k - d - 1) |a|_(k) / (d sum |a|), for the d pixels in ascending order.

    From 0 (the same everywhere) to 1 - 1/d (all in one pixel); higher is better, and says nothing of whether it is the
    right pixel. NaN for a map of zeros and where a value is not finite.
    Chalasani, Chen, Chowdhury, Jha, Wu: Concise explanations of neural networks using adversarial training, ICML 2020.
    """

    higher_is_better = True

    @property
    def variant(self) -> str:
        """What the coefficient is taken of."""
        return "Gini coefficient of the absolute attributions of all pixels"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Without any pass."""
        ordered = context.attributions.double().abs().flatten(1).sort(1).values
        pixels = ordered.shape[1]
        ranks = torch.arange(1, pixels + 1, device=ordered.device, dtype=ordered.dtype)
        gini = (ordered * (2 * ranks - pixels - 1)).sum(1) / (pixels * ordered.sum(1))
        return {"score": gini.where(context.replace_non_finite()[1], torch.nan)}
