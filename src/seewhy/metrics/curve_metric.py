"""What the metrics that read perturbation curves share: their settings and their curves over all pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seewhy.errors import UserError
from seewhy.explainers.baselines import BASELINES
from seewhy.metrics.area import area, pixel_counts
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.curves import target_curves
from seewhy.metrics.evidence import SPACES, Evidence
from seewhy.metrics.seen import Curve


class CurveMetric(ImageMetric):
    """`baseline` stands for pixels that are not seen; `n_steps` divide all pixels of an image; `space` of the score.

    A step is pixels / n_steps, rounded to whole pixels; with at least as many steps as pixels it is one pixel.
    """

    def __init__(self, baseline: str = "black", n_steps: int = 50, space: str = "probability") -> None:
        super().__init__()
        key = f"metric.{self.name}"
        if baseline not in BASELINES:
            raise UserError(f"{key}.baseline={baseline!r} is none of {', '.join(BASELINES)}")
        if not isinstance(n_steps, int) or n_steps < 1:
            raise UserError(f"{key}.n_steps={n_steps} must be a whole number from 1, such as 50")
        if space not in SPACES:
            raise UserError(f"{key}.space={space!r} must be {' or '.join(SPACES)}")
        self.baseline = baseline
        self.n_steps = n_steps
        self.space = space

    @property
    def settings(self) -> str:
        """The settings in words, for `variant`."""
        return f"{self.space}, {self.baseline} baseline, {self.n_steps} steps"

    def areas(self, evidence: Evidence, change: str, first: str) -> Tensor:
        """Area under the curve over the share of all pixels, [batch]; NaN for maps that are not finite."""
        pixels = evidence.images[0, 0].numel()
        counts = pixel_counts(pixels, self.n_steps)
        shares = torch.tensor(counts, dtype=torch.float64) / pixels
        curve = Curve(change, first, self.baseline)
        curves = target_curves(evidence, curve, [counts] * len(evidence.images), self.space)
        return evidence.images.new_tensor([area(shares, values) for values in curves])


def columns_of(evidence: Evidence, rows: Sequence[Mapping[str, float]]) -> dict[str, Tensor]:
    """One tensor [batch] per column out of one mapping per image."""
    return {column: evidence.images.new_tensor([row[column] for row in rows]) for column in rows[0]}
