"""Faithfulness correlation: whether pixels that add up to more also cost the score more."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from seewhy.errors import UserError
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.correlation import pearson
from seewhy.metrics.evidence import Evidence
from seewhy.metrics.removal import check_removal_baseline, check_samples, removed_subsets, subset_size


class FaithfulnessCorrelation(ImageMetric):
    """Pearson's correlation over random sets S of sum over S of the map and f(x) - f(x with S at the baseline).

    `n_samples` sets of the same size, `share` of the pixels; f is the target's logit; a pixel is removed in all channels.
    From -1 to 1, higher is better. NaN where the sums or the drops do not vary (a constant map, a score that does not
    depend on the image) and where a value of the map is not finite.
    Bhatt, Weller, Moura: Evaluating and aggregating feature-based model explanations, IJCAI 2020.
    """

    higher_is_better = True

    def __init__(self, n_samples: int = 100, share: float = 0.1, baseline: str = "black") -> None:
        super().__init__()
        check_samples("faithfulness_correlation", n_samples, least=2)
        check_removal_baseline("faithfulness_correlation", baseline)
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

    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """`n_samples` forward passes for each image, shared with `sensitivity_n` where it has the same share."""
        size = subset_size(self.share, evidence.attributions[0].numel())
        found = removed_subsets(evidence, size, self.n_samples, self.baseline)
        return {"score": pearson(found.sums, found.drops)}
