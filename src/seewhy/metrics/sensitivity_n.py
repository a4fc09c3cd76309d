"""Sensitivity-n: the faithfulness of the map's sums, over small and large parts of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seewhy.errors import UserError
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.correlation import pearson
from seewhy.metrics.evidence import Evidence
from seewhy.metrics.removal import check_removal_baseline, check_samples, removed_subsets, subset_size

SHARES = (0.01, 0.03, 0.1, 0.3, 0.8)


class SensitivityN(ImageMetric):
    """Mean over n of Pearson's correlation of sum over S of the map and f(x) - f(x with S at the baseline), |S| = n.

    For each n, one of the `shares` of the pixels, `n_samples` random sets S; f is the target's logit; a pixel is removed in
    all channels. From -1 to 1, higher is better; 1 for every n means that the map adds up as the network does. Sizes
    at which the drops do not vary are left out; NaN where that is all of them, for a constant map, and where a value
    of the map is not finite.
    Ancona, Ceolini, Öztireli, Gross: Towards better understanding of gradient-based attribution methods for deep neural
    networks, ICLR 2018.
    """

    higher_is_better = True

    def __init__(self, n_samples: int = 100, shares: Sequence[float] = SHARES, baseline: str = "black") -> None:
        super().__init__()
        check_samples("sensitivity_n", n_samples, least=2)
        check_removal_baseline("sensitivity_n", baseline)
        if not shares or not all(0 < share < 1 for share in shares):
            raise UserError(f"metric.sensitivity_n.shares={list(shares)} must be between 0 and 1, such as [0.1, 0.5]")
        self.n_samples, self.shares, self.baseline = n_samples, tuple(shares), baseline

    @property
    def variant(self) -> str:
        """Sizes, samples, baseline and score space."""
        sizes = ", ".join(f"{100 * share:g}" for share in self.shares)
        return (
            f"mean Pearson over n = {sizes} % of the pixels, {self.n_samples} random sets each; "
            f"removed: {self.baseline}; score: logit"
        )

    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """`n_samples` forward passes for each image and size."""
        pixels = evidence.attributions[0].numel()
        sizes = sorted({subset_size(share, pixels) for share in self.shares})
        subsets = [removed_subsets(evidence, size, self.n_samples, self.baseline) for size in sizes]
        return {"score": torch.stack([pearson(found.sums, found.drops) for found in subsets]).nanmean(0)}
