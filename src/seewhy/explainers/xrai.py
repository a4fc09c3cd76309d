"""XRAI: regions in the order in which they hold the most integrated gradients for their size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, sparse
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer, measure_completeness
from seewhy.explainers.baselines import build_baselines
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.superpixels import check_n_segments, scales_of
from seewhy.models.batched import BatchedEvaluator

BASELINES = ("black", "white")
SMALLEST = 1 / 1000
"""Share of the image's pixels that a region must add."""


@dataclass(frozen=True, kw_only=True)
class Xrai(Explainer):
    """1 - the share of the image that is taken before a pixel, when regions are taken by their integrated gradients.

    The gradients are integrated from black and from white and averaged. Regions of several sizes overlap; again and
    again the one whose pixels not yet taken have the largest mean attribution is taken. The pixels above 1 - k are the
    share k of the image that matters most. Regions are SLIC superpixels (`scales`: how many of each size), widened by
    `dilation` pixels to include their edges (None: 5 at 224 pixels); the paper uses Felzenszwalb's. Facts: the
    completeness gap from the baseline where it is larger, and `n_regions` taken.
    Kapishnikov et al.: XRAI, better attributions through regions, ICCV 2019.
    """

    n_steps: int | str = 50
    scales: tuple[int, ...] = (8, 16, 32, 64, 128)
    dilation: int | None = None
    tolerance: float = 0.01
    signed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(self.scales))
        if not self.scales:
            raise UserError("explainer.scales=[] must hold at least one number of superpixels, such as 50")
        for scale in self.scales:
            check_n_segments(scale, "scales")
        if self.dilation is not None and self.dilation < 0:
            raise UserError(f"explainer.dilation={self.dilation} must be 0 or a number of pixels above")
        self._gradients("black")

    @property
    def parameters(self) -> str:
        """Without the tolerance where the number of steps is given."""
        shown = super().parameters
        return shown if self.n_steps == "auto" else shown.replace(f", tolerance={self.tolerance}", "")

    def _gradients(self, baseline: str) -> IntegratedGradients:
        return IntegratedGradients(baseline=baseline, n_steps=self.n_steps, tolerance=self.tolerance, seed=self.seed)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        parts = [self._gradients(name).attribute_channels(evaluator, images, targets).sum(1) for name in BASELINES]
        gaps = self._gaps(evaluator, images, targets, parts)
        gradients = torch.stack(parts).mean(0)
        dilation = round(min(images.shape[2:]) * 5 / 224) if self.dilation is None else self.dilation
        maps, taken = [], []
        for image, gradient in zip(images, gradients.cpu().double().numpy(), strict=True):
            found = build_regions(scales_of(image, self.scales), dilation)
            order = order_regions(found, gradient.ravel(), max(1, round(gradient.size * SMALLEST)))
            values, before = np.empty(gradient.size), 0
            for pixels, _ in order:
                values[pixels] = 1 - before / gradient.size
                before += len(pixels)
            maps.append(torch.from_numpy(values.reshape(gradient.shape)))
            taken.append(len(order))
        facts = {**gaps, "n_regions": torch.tensor(taken)}
        return AttributionResult(torch.stack(maps).to(images), facts)

    def _gaps(
        self, evaluator: BatchedEvaluator, images: Images, targets: Targets, parts: list[Tensor]
    ) -> dict[str, Tensor]:
        """The completeness facts of the integral with the larger relative gap, for each image."""
        ends = [images, *(build_baselines(name, images, self.seed) for name in BASELINES)]
        scores = evaluator.compute_scores(torch.cat(ends), targets.repeat(len(ends))).view(len(ends), -1)
        facts = [measure_completeness(part, scores[0] - score) for part, score in zip(parts, scores[1:], strict=True)]
        relative = torch.stack([each["completeness_gap_relative"] for each in facts])
        worst = relative.argmax(0, keepdim=True)
        return {key: torch.stack([each[key] for each in facts]).gather(0, worst)[0] for key in facts[0]}

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """One pass each way for each step from each baseline, and three forwards for the completeness gaps."""
        if self.n_steps == "auto":
            return None
        backward = len(BASELINES) * int(self.n_steps)
        return backward + len(BASELINES) + 1, backward


def build_regions(segmentations: list[NDArray[np.int64]], dilation: int) -> sparse.csr_matrix:
    """Which pixels belong to which region: [regions, pixels], every label of every segmentation widened in a square."""
    rows = []
    for labels in segmentations:
        numbers = np.arange(labels.size).reshape(labels.shape)
        for label, box in enumerate(ndimage.find_objects(labels + 1)):
            wide = tuple(slice(max(0, side.start - dilation), side.stop + dilation) for side in box)
            inside = ndimage.maximum_filter((labels[wide] == label).view(np.uint8), 2 * dilation + 1, mode="constant")
            rows.append(numbers[wide][inside > 0])
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    pixels = np.concatenate(rows)
    shape = len(rows), segmentations[0].size
    return sparse.csr_matrix((np.ones(len(pixels)), pixels, starts), shape)


def order_regions(
    found: sparse.csr_matrix, attribution: NDArray[np.float64], smallest: int
) -> list[tuple[NDArray[np.int64], float]]:
    """(pixels, their mean attribution) in the order of the greedy choice; every pixel once.

    The region with the largest mean over its pixels that are not yet taken comes next. A region that would add fewer
    than `smallest` pixels is dropped; the pixels that no region takes come last.
    """
    columns = found.tocsc()
    areas, sums = found.sum(1).A1, found @ attribution
    free, order = np.ones(len(attribution), bool), []
    while (areas >= smallest).any():
        density = np.where(areas >= smallest, sums / np.maximum(areas, 1), -np.inf)
        pixels = found[int(density.argmax())].indices
        pixels = pixels[free[pixels]]
        order.append((pixels, float(attribution[pixels].mean())))
        free[pixels] = False
        removed = columns[:, pixels]
        areas -= removed.sum(1).A1
        sums -= removed @ attribution[pixels]
    if free.any():
        order.append((free.nonzero()[0], float(attribution[free].mean())))
    return order
