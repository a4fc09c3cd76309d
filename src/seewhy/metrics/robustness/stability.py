"""Stability: how alike the maps of an image and of noisy copies with the same prediction are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.core.settings import Count, Share
from seewhy.metrics.base import CORRELATION, SHARE, ImageMetric, MetricContext, Range
from seewhy.metrics.robustness.max_sensitivity import explain_noisy_images, iterate_noisy_images
from seewhy.metrics.similarity import compare_with_maps


class Stability(ImageMetric):
    """Mean of Spearman's rank correlation of the map with those of noisy images that the network predicts alike.

    The noise is that of `max_sensitivity`, uniform in [-radius, radius] for every channel of every pixel, and the target
    stays. A noisy image counts where the prediction is that of the image (`MetricContext.decide`: the likeliest class, the
    labels above the threshold, or the sign of a contrast); a map that follows a changed prediction is no unstable map.
    Column `kept` is the share of noisy images that count. Range -1 to 1, higher is better: a map that ignores the image
    scores 1, one that is drawn anew 0. A noisy map that is constant counts as 0; NaN where no noisy image counts, the map
    itself is constant, or a value is not finite. UserError without the explainer.

    Alvarez-Melis, Jaakkola: On the robustness of interpretability methods, 2018 (there the largest change of the map).

    Args:
        n_samples: Noisy images, each one explanation; those of `max_sensitivity` are shared where both settings agree.
        radius: Largest noise, as a share of the range [0, 1] of the image.
        passes: Most passes of a run for these explanations: a dearer method is measured on fewer images, spread evenly over
            the data and at least ten; null: on all.

    Raises:
        UserError: If a setting is out of range.
    """

    construct = "robustness"
    higher_is_better = True
    columns = ("kept",)
    ranges: Mapping[str, Range] = {"score": CORRELATION, "kept": SHARE}

    def __init__(self, n_samples: Count = 10, radius: Share = 0.02, passes: Count | None = None) -> None:
        super().__init__()
        self.n_samples, self.radius = n_samples, radius
        self.explanations, self.passes = n_samples, passes

    @property
    def variant(self) -> str:
        """Noise, samples and similarity."""
        return (
            f"{self.n_samples} noisy images, uniform noise up to {self.radius:g} of the range [0, 1], of which those with "
            "the image's prediction count; mean Spearman rank correlation of the signed maps"
        )

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compare the maps, with an explanation and a forward pass of each noisy image."""
        maps = explain_noisy_images(context, self.name, self.n_samples, self.radius)
        kept = self._find_kept(context)
        similarities = torch.stack([compare_with_maps(context, each) for each in maps.unbind(1)], 1)
        counted = similarities.where(kept, 0).sum(1) / kept.sum(1)  # 0 / 0 is NaN: no noisy image counts
        return {"score": counted, "kept": kept.double().mean(1)}

    def _find_kept(self, context: MetricContext) -> Tensor:
        """Whether each noisy image is predicted as the image, bool [batch, samples]."""
        before = context.decide(context.logits)
        kept = torch.empty(len(before) * self.n_samples, dtype=torch.bool)
        for samples, image, noisy in iterate_noisy_images(context, self.n_samples, self.radius):
            after = context.decide(context.evaluator.compute_logits(noisy), image)
            pairs = zip(after, image.tolist(), strict=True)
            kept[samples] = torch.tensor([decision == before[row] for decision, row in pairs])
        return kept.view(-1, self.n_samples).to(context.images.device)
