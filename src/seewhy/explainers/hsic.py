"""HSIC attribution: how much the score depends on whether a cell of the image is visible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.quasirandom import SobolEngine

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.settings import CountFrom2, OneOf, Pixels
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.baselines import Baseline, build_baselines
from seewhy.explainers.rounding import are_independent
from seewhy.explainers.superpixels import Coalitions
from seewhy.models.batched import BatchedEvaluator

NARROW = 0.1
"""Widths of the kernel below this share of the scores' standard deviation tell every two scores apart."""
MOST = 2000
"""Scores, the first of a sequence that fills the cube evenly, whose distances are looked at."""


@dataclass(frozen=True, kw_only=True)
class Hsic(Explainer):
    """The Hilbert-Schmidt independence criterion between a cell's visibility x and the score y, enlarged bilinearly.

    HSIC = sum over masks i, j of (H K H)_ij L_ij / n with the kernels K_ij = 3/2 - (x_i - x_j)^2 and
    L_ij = exp(-(y_i - y_j)^2 / (2 w^2)); H takes the mean off. The n masks are a scrambled Sobol sequence of each image's
    own, rounded to 0 and 1; hidden cells show the baseline. Never negative: it does not tell support from opposition.
    Facts: `bandwidth` is w, `bandwidth_relative` w by the standard deviation of the scores, `floor` what the scores'
    rounding makes of a value.
    Novello, Fel, Vigouroux: Making sense of dependence, efficient black-box explanations using dependence measure,
    NeurIPS 2022.

    Args:
        cells: Side of the grid of cells, from 1 to that of the image in pixels.
        n_masks: Masks of each image, from 2.
        bandwidth: The width w: |`median`| of the scores, as in the authors' code, or the median of their `distances`, which
            also suits scores around 0.
        baseline: What covers cells: black, white, grey, mean, blurred, noise or uniform.
    """

    cells: Pixels = 8
    n_masks: CountFrom2 = 500
    bandwidth: Annotated[str, OneOf(("median", "distances"))] = "median"
    baseline: Baseline = "black"

    signed: ClassVar[bool] = False

    def list_warnings(self, facts: Mapping[str, float]) -> list[str]:
        """List a kernel too narrow to say anything.

        Args:
            facts: Those of one map.

        Returns:
            At most one sentence.
        """
        width = facts["bandwidth_relative"]
        if width >= NARROW or self.bandwidth != "median":
            return []
        return [
            f"the median score is {width:.2g} standard deviations from 0, too narrow a kernel; set "
            "explainer.bandwidth=distances"
        ]

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        height, width = images.shape[2:]
        if self.cells > min(height, width):
            raise UserError(f"explainer.cells={self.cells} is more than the {min(height, width)} pixels of the image")
        rows, columns = (
            ((torch.arange(side, device=images.device) + 0.5) * self.cells / side).long() for side in (height, width)
        )
        labels = (rows[:, None] * self.cells + columns).expand(len(images), height, width)
        cover = build_baselines(self.baseline, images, self.seed)
        visible = torch.stack([draw_masks(self.n_masks, self.cells**2, self.seed, image) for image in images])
        index = torch.arange(len(images)).repeat_interleave(self.n_masks)
        coalitions = Coalitions(evaluator, images, cover, labels, targets)
        scores, rounding = (
            each.view(len(images), -1) for each in coalitions.compute_scores(index, visible.flatten(0, 1))
        )
        widths = torch.stack([choose_width(each, self.bandwidth) for each in scores])
        values = torch.stack([compute_hsic(*each) for each in zip(visible.double(), scores, widths, strict=True)])
        small = values.view(-1, 1, self.cells, self.cells)
        maps = functional.interpolate(small, (height, width), mode="bilinear", align_corners=False)[:, 0]
        deviation = scores.std(1)
        relative = torch.where(deviation > 0, widths / deviation, torch.inf)
        if are_independent(evaluator.classifier):
            given = zip(visible.double(), scores, widths, rounding, strict=True)
            cells = torch.stack([bound_independent_rounding(*each) for each in given])
            floor = cells.gather(1, labels.flatten(1).to(cells.device))
        else:
            floor = bound_rounding(scores, widths, rounding.amax(1))
        facts = {"bandwidth": widths.to(images), "bandwidth_relative": relative.to(images)}
        return AttributionResult(maps.to(images), facts, floor.to(images))

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One forward for each mask."""
        return self.n_masks, 0


def draw_masks(count: int, cells: int, seed: int, image: Tensor) -> Tensor:
    """Draw masks of one image.

    Args:
        count: How many.
        cells: Cells of a mask.
        seed: Of the explainer.
        image: [channels, height, width].

    Returns:
        Bool [count, cells], true where a cell is visible: a scrambled Sobol sequence, rounded.
    """
    number = int(torch.randint(2**31, (), generator=seed_generator(seed, image, "hsic")))
    return SobolEngine(cells, scramble=True, seed=number).draw(count, dtype=torch.float64) >= 0.5


def choose_width(scores: Tensor, bandwidth: str) -> Tensor:
    """Choose the width of the kernel of the scores.

    Args:
        scores: Float64 [n].
        bandwidth: `median` or `distances`.

    Returns:
        The width; the median distance where the median score is 0, 1 where all scores are equal.
    """
    width = scores.quantile(0.5).abs()
    if bandwidth == "distances" or not width:
        width = functional.pdist(scores[:MOST, None]).quantile(0.5)
    return width if width else torch.ones_like(width)


def compute_hsic(visible: Tensor, scores: Tensor, width: Tensor) -> Tensor:
    """Compute HSIC of every cell: for x in {0, 1}, H K H = 2 (x - mean x)(x - mean x)'.

    Args:
        visible: Float64 [n, cells], 0 or 1.
        scores: Float64 [n].
        width: Of the kernel of the scores.

    Returns:
        Float64 [cells], from 0.
    """
    centred = visible - visible.mean(0)
    values = torch.zeros_like(centred[0])
    for rows in torch.arange(len(scores)).split(1024):
        kernel = torch.expm1(-((scores[rows, None] - scores) ** 2) / (2 * width**2))  # -1 + L: the 1 falls out
        values += (centred[rows] * (kernel @ centred)).sum(0)
    return (2 / len(scores) * values).clamp_min(0)


def bound_rounding(scores: Tensor, widths: Tensor, rounding: Tensor) -> Tensor:
    """Bound what the rounding r of a score makes of HSIC: n / 2 times that of L, r min(spread / w^2, e^(-1/2) / w).

    Args:
        scores: Float64 [batch, n].
        widths: Of the kernels [batch].
        rounding: r [batch].

    Returns:
        Float64 [batch].
    """
    spread = scores.amax(1) - scores.amin(1)
    slope = torch.minimum((spread + rounding) / widths**2, 0.61 / widths)
    return scores.shape[1] / 2 * rounding * slope


def bound_independent_rounding(visible: Tensor, scores: Tensor, width: Tensor, rounding: Tensor) -> Tensor:
    """Bound what roundings r_i of the scores, independent of each other, make of HSIC, to the second order.

    Its slope by score i is g_i = 4 / n * c_i * sum over j of c_j L'(y_i - y_j), c being the centred masks; that makes the
    root of the sum of (r_i g_i)^2. Where all scores are equal their rounding alone makes about (r / w)^2 / 2.

    Args:
        visible: Float64 [n, cells], 0 or 1.
        scores: Float64 [n].
        width: Of the kernel of the scores.
        rounding: Float64 [n].

    Returns:
        Float64 [cells].
    """
    centred = visible - visible.mean(0)
    squares = torch.zeros_like(centred[0])
    for rows in torch.arange(len(scores)).split(1024):
        apart = (scores[rows, None] - scores) / width
        slopes = -apart * torch.exp(-apart.square() / 2) / width
        squares += ((rounding[rows, None] * centred[rows] * (slopes @ centred)) ** 2).sum(0)
    return 4 / len(scores) * squares.sqrt() + (rounding.square().mean() / width**2).clamp_max(1)
