"""XRAI: regions in the order in which they hold the most integrated gradients for their size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Le, MinLen
from numpy.typing import NDArray
from scipy import ndimage, sparse
from torch import Tensor

from seewhy.core.facts import select_display
from seewhy.core.settings import MANY, Auto, Count, Positive, refuse_unread
from seewhy.core.tensors import map_in_threads
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.baselines import build_baselines
from seewhy.explainers.completeness import ScoreChange, measure_completeness, share_rounding
from seewhy.explainers.integrated_gradients import IntegratedGradients, describe_map_error
from seewhy.explainers.rounding import compute_scores_with_rounding
from seewhy.models.batched import BatchedEvaluator

BASELINES = ("black", "white")
SMALLEST_GAIN = 1 / 1000
"""Share of the image's pixels that a region must add: the 50 pixels of the reference at its 224 x 224."""
SEGMENTED_SIZE = (224, 224)
"""Size that an image is brought to before it is segmented: scale and smallest segment are meant for it."""
SMALLEST_SEGMENT = 150
TIE = 1e-12
"""Share of the largest value by which rounding of sums in double precision may tell two means apart."""
SIGMA = 0.8


@dataclass(frozen=True, kw_only=True)
class Xrai(Explainer):
    """1 - the share of the image that is ranked before a pixel, when regions are ranked by their integrated gradients.

    The gradients are integrated from black and from white, averaged and summed over the channels. Regions of several
    sizes overlap; again and again the one whose pixels not yet ranked have the largest mean attribution comes next. The
    pixels above 1 - k are the share k of the image that matters most. Regions are Felzenszwalb's, with the settings of the
    authors' code; those whose means differ by no more than the floor of rounding have no order and come together. Where
    the integrated gradients are zero, or below their floor, so is the map. Facts: the completeness gap from the baseline
    where it is larger, `n_regions` of a rank of their own, `largest` and `floor` of the integral.
    Kapishnikov et al.: XRAI, better attributions through regions, ICCV 2019. Felzenszwalb, Huttenlocher: Efficient
    graph-based image segmentation, IJCV 2004.

    Args:
        n_steps: Nodes of each path integral, or `auto`: as many as the tolerance needs.
        scales: Of Felzenszwalb's segmentation, each above 0: the larger, the larger the regions.
        dilation: Radius in pixels of the disk by which regions are widened to include their edges; None: 5 at 224
            pixels, in proportion to the shorter side.
        tolerance: Relative completeness gap at which `n_steps=auto` may stop.
        map_tolerance: Estimated relative L2 error of the integrated gradients at which `n_steps=auto` may stop.
    """

    n_steps: Count | Auto = 50
    scales: Annotated[Sequence[Positive], MinLen(1)] = (50, 100, 150, 250, 500, 1200)
    dilation: Annotated[int, Ge(0), Le(MANY)] | None = None
    tolerance: Positive = 0.01
    map_tolerance: Positive = 0.05
    signed: ClassVar[bool] = False
    rectified: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "scales", tuple(self.scales))
        if self.n_steps != "auto":
            refuse_unread(self, "explainer", ("tolerance",), f"with n_steps={self.n_steps}, but with n_steps=auto")
        self._build_integral("black")

    @property
    def parameters(self) -> str:
        """Without the tolerance where the number of steps is given."""
        text = super().parameters
        return text if self.n_steps == "auto" else text.split(", tolerance=")[0]

    def _build_integral(self, baseline: str) -> IntegratedGradients:
        return IntegratedGradients(
            baseline=baseline,
            n_steps=self.n_steps,
            tolerance=self.tolerance,
            map_tolerance=self.map_tolerance,
            seed=self.seed,
        )

    def list_warnings(self, facts: Mapping[str, float]) -> list[str]:
        """List an estimated error of the integrated gradients that is over its tolerance.

        Args:
            facts: Those of one map.

        Returns:
            At most one sentence.
        """
        return describe_map_error(facts, self.map_tolerance, IntegratedGradients.max_steps)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        paths = [self._build_integral(name).integrate(evaluator, images, targets) for name in BASELINES]
        integrals = [values.sum(1) for values, _ in paths]
        errors = [facts["map_error"] for _, facts in paths if "map_error" in facts]
        gaps, rounding = self._measure_gaps(evaluator, images, targets, integrals)
        mean = torch.stack(integrals).mean(0)
        settled = AttributionResult(mean, gaps, share_rounding(mean, rounding)).settle()
        gradients, floors = mean.cpu().double().numpy(), settled.facts["floor"].tolist()
        dilation = round(min(images.shape[2:]) * 5 / 224) if self.dilation is None else self.dilation
        maps, counts = [], []
        for image, gradient, floor in zip(images, gradients, floors, strict=True):
            regions = build_regions(
                segment(select_display(image, evaluator.classifier.facts.display), self.scales), dilation
            )
            ranked = rank_regions(regions, gradient.ravel(), max(1, round(gradient.size * SMALLEST_GAIN)), floor)
            values, before = np.empty(gradient.size), 0
            for pixels, _ in ranked:
                values[pixels] = 1 - before / gradient.size
                before += len(pixels)
            maps.append(torch.from_numpy(values.reshape(gradient.shape)))
            counts.append(len(ranked))
        worst = {"map_error": torch.stack(errors).amax(0)} if errors else {}
        is_empty = ~settled.maps.flatten(1).any(1)
        ranks = torch.stack(maps).to(images).masked_fill(is_empty[:, None, None], 0.0)
        return AttributionResult(ranks, {**settled.facts, "n_regions": torch.tensor(counts), **worst})

    def _measure_gaps(
        self, evaluator: BatchedEvaluator, images: Images, targets: Targets, integrals: list[Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """(completeness facts of the integral with the larger relative gap, rounding of the change), for each image."""
        ends = [images, *(build_baselines(name, images, self.seed) for name in BASELINES)]
        scores, bounds = compute_scores_with_rounding(evaluator, torch.cat(ends), targets.repeat(len(ends)))
        scores, rounding = scores.double().view(len(ends), -1), bounds.double().view(len(ends), -1).amax(0)
        facts = [
            measure_completeness(integral, ScoreChange(scores[0] - score, rounding))
            for integral, score in zip(integrals, scores[1:], strict=True)
        ]
        relative = torch.stack([each["completeness_gap_relative"] for each in facts])
        worst = relative.argmax(0, keepdim=True)
        return {key: torch.stack([each[key] for each in facts]).gather(0, worst)[0] for key in facts[0]}, rounding

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """One pass each way for each step from each baseline, and three forwards for the completeness gaps."""
        if self.n_steps == "auto":
            return None
        backward = len(BASELINES) * int(self.n_steps)
        return backward + len(BASELINES) + 1, backward


def segment(image: Tensor, scales: Sequence[float]) -> list[NDArray[np.int64]]:
    """Segment an image [3, height, width] with Felzenszwalb's method, as the authors' code does.

    The image is stretched to [-1, 1], resized to 224 x 224 pixels and segmented at each scale; the labels
    [height, width] are brought back to its own size, where small segments may be missing.
    """
    from skimage.segmentation import felzenszwalb
    from skimage.transform import resize

    picture = image.detach().permute(1, 2, 0).cpu().double().numpy()
    lowest, highest = picture.min(), picture.max()
    stretched = 2 * ((picture - lowest) / (highest - lowest)) - 1 if highest > lowest else np.zeros_like(picture)
    resized = resize(stretched, SEGMENTED_SIZE, order=3, mode="constant", preserve_range=True, anti_aliasing=True)

    def segment_at(scale: float) -> NDArray[np.int64]:
        labels = felzenszwalb(resized, scale=scale, sigma=SIGMA, min_size=SMALLEST_SEGMENT)
        back = resize(labels, picture.shape[:2], order=0, mode="constant", preserve_range=True, anti_aliasing=False)
        return back.astype(np.int64)

    return map_in_threads(segment_at, scales)


def build_regions(segmentations: Sequence[NDArray[np.int64]], dilation: int) -> sparse.csr_matrix:
    """Which pixels belong to which region: [regions, pixels], every segment of every segmentation widened by a disk."""
    import cv2
    from skimage.morphology import disk

    rows = []
    for labels in segmentations:
        numbers = np.arange(labels.size).reshape(labels.shape)
        for label, box in enumerate(ndimage.find_objects(labels + 1)):
            if box is None:
                continue
            wide = tuple(slice(max(0, side.start - dilation), side.stop + dilation) for side in box)
            inside = cv2.dilate((labels[wide] == label).view(np.uint8), disk(dilation, np.uint8))
            rows.append(numbers[wide][inside > 0])
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    pixels = np.concatenate(rows)
    shape = len(rows), segmentations[0].size
    return sparse.csr_matrix((np.ones(len(pixels)), pixels, starts), shape)


def rank_regions(
    regions: sparse.csr_matrix, attribution: NDArray[np.float64], smallest: int, tie: float = 0.0
) -> list[tuple[NDArray[np.int64], float]]:
    """Rank regions greedily; each contributes the pixels that no region before it holds.

    The region with the largest mean over its free pixels comes next, together with those that tie with it. A region that
    would add fewer than `smallest` pixels is dropped; the pixels that no region holds come last.

    Args:
        regions: The pixels of each region, [regions, pixels].
        attribution: Float64 [pixels].
        smallest: Free pixels that a region must hold, at least 1.
        tie: Largest difference of two means that tells nothing, from 0.

    Returns:
        (pixels, their mean attribution) in the order of the ranks; every pixel once.
    """
    columns = regions.tocsc()
    lengths, areas, sums = np.diff(columns.indptr), regions.sum(1).A1, regions @ attribution
    free, ranked, scale = np.ones(len(attribution), bool), [], float(np.abs(attribution).max())
    while (areas >= smallest).any():
        density = np.where(areas >= smallest, sums / np.maximum(areas, 1), -np.inf)
        best = int(density.argmax())
        tied = density >= density[best] - tie - TIE * scale
        tied[best] = True  # also where it is NaN
        pixels = np.unique(regions[tied.nonzero()[0]].indices)
        pixels = pixels[free[pixels]]
        ranked.append((pixels, float(attribution[pixels].mean())))
        free[pixels] = False
        held = lengths[pixels]  # by how many regions
        entries = np.arange(held.sum()) + np.repeat(columns.indptr[pixels] + held - held.cumsum(), held)
        holders = columns.indices[entries]
        areas -= np.bincount(holders, minlength=len(areas))
        sums -= np.bincount(holders, np.repeat(attribution[pixels], held), minlength=len(sums))
    if free.any():
        ranked.append((free.nonzero()[0], float(attribution[free].mean())))
    return ranked
