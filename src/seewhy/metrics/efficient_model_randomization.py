"""Efficient model randomisation: whether the map loses its structure together with the network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.errors import UserError
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.evidence import Evidence
from seewhy.metrics.model_randomization import fully_randomized_maps
from seewhy.types import Attributions


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
