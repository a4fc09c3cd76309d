"""RISE: the average score of randomly masked images in which a pixel is visible."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.settings import Count, OneOf, Pixels, Share
from seewhy.core.tensors import iterate_runs
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.rounding import are_independent, bound_score_differences
from seewhy.explainers.superpixels import BLOCK
from seewhy.models.batched import BatchedEvaluator

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier


@dataclass(frozen=True, kw_only=True)
class Rise(Explainer):
    """Sum over masks M of score(image * M) M / sum over masks M, pixel by pixel, less its smallest value.

    One of the n masks, with values in [0, 1], is a grid of `cells` x `cells` bits, up-sampled bilinearly to one cell more
    than the image and cut out at a random position. The map estimates the score given that the pixel is visible, as the
    published one does, which divides by n * `probability`, the expected sum of a pixel's masks: where the score hardly
    changes, that map is the noise of how often each pixel happened to be visible. A pixel that no mask shows has the mean
    score. Only differences within a map mean anything: fact `smallest` is what was subtracted; `floor` is the rounding of
    a difference of two scores.
    Petsiuk, Das, Saenko: RISE, randomized input sampling for explanation of black-box models, BMVC 2018.

    Args:
        n_masks: Masks of each image, from 1.
        cells: Side of the grid of bits, from 1 to that of the image in pixels.
        probability: That a bit is 1, above 0 and at most 1.
        space: `probability`, the target's, as published, or its `logit`; the output where there are no probabilities.
    """

    n_masks: Count = 4000
    cells: Pixels = 7
    probability: Share = 0.5
    space: Annotated[str, OneOf(("probability", "logit"))] = "probability"

    signed: ClassVar[bool] = False
    rectified: ClassVar[bool] = True

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        height, width = images.shape[2:]
        if self.cells > min(height, width):
            raise UserError(f"explainer.cells={self.cells} is more than the {min(height, width)} pixels of the image")
        down, across = (compute_window_weights(self.cells, side).to(images) for side in (height, width))
        generators = [seed_generator(self.seed, image, "rise") for image in images]
        sums = _MaskedScores(len(images), (height, width), images)
        for start in range(0, self.n_masks, BLOCK):
            count = min(BLOCK, self.n_masks - start)
            drawn = torch.stack(
                [torch.rand(BLOCK, self.cells**2 + 2, generator=each, dtype=torch.float32) for each in generators]
            )
            drawn = drawn[:, :count].flatten(0, 1).to(images.device)
            shifts = zip(drawn[:, -2:].unbind(1), (down, across), strict=True)
            grids = (drawn[:, :-2] < self.probability).to(images).view(-1, self.cells, self.cells)
            top, left = ((share * len(table)).long().clamp_max(len(table) - 1) for share, table in shifts)
            for rows in evaluator.split(len(images) * count, gradient=False):
                masks = down[top[rows]] @ grids[rows] @ across[left[rows]].mT
                scores, rounding = self._compute_scores(evaluator, images, targets, rows // count, masks)
                sums.add(rows // count, masks, scores, rounding)
        maps = sums.divide()
        smallest = maps.amin((1, 2))
        facts = {"smallest": (smallest + sums.first).to(images)}
        floor = sums.bound_means() if are_independent(evaluator.classifier) else sums.rounding
        return AttributionResult((maps - smallest[:, None, None]).to(images), facts, floor)

    def _compute_scores(
        self, evaluator: BatchedEvaluator, images: Images, targets: Targets, image: Tensor, masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(scores, their rounding), [n] each, under masks [n, height, width] of the images with these indices [n]."""
        masked = images.new_empty(len(image), *images.shape[1:])
        for item, rows in iterate_runs(image):
            torch.mul(images[item], masks[rows, None], out=masked[rows])
        logits, chosen = evaluator.compute_logits(masked), targets[image]
        rounding = bound_score_differences(evaluator.classifier, logits, chosen, images)
        facts = evaluator.classifier.facts
        if self.space == "logit" or not facts.has_probabilities or facts.gives_probabilities:
            return chosen.score(logits), rounding
        scores = chosen.score(facts.compute_probabilities(logits))
        change = rounding
        if not chosen.values.is_floating_point():  # p' - p is at most p (1 - p) (exp(r) - 1), and near that for small r
            change = torch.minimum(rounding, (1 - scores) * torch.expm1(rounding))
        return scores, scores.abs() * (change + torch.finfo(scores.dtype).eps)

    def _resolve(self, classifier: Classifier, size: tuple[int, int]) -> Explainer:
        """Outputs that are no probabilities are read as they are."""
        return self if classifier.facts.has_probabilities else replace(self, space="logit")

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One forward for each mask."""
        return self.n_masks, 0


class _MaskedScores:
    """Sums of masks, and of masks times scores, of each image, in double precision.

    Scores count from an image's first one: where all are alike the map is zero to the last bit.
    """

    def __init__(self, count: int, size: tuple[int, int], images: Images) -> None:
        self.weights = torch.zeros(count, *size, dtype=torch.float64, device=images.device)
        self.weighted = torch.zeros_like(self.weights)
        self.first, self.total, self.rounding, self.squares = self.weights.new_zeros(4, count).unbind(0)
        self.counts = [0] * count

    def add(self, image: Tensor, masks: Tensor, scores: Tensor, rounding: Tensor) -> None:
        """Add masks [n, height, width] with their scores and the rounding of these [n]; `image` [n] in ascending order."""
        for item, rows in iterate_runs(image):
            if not self.counts[item]:
                self.first[item] = scores[rows][0]
            beyond = scores[rows].double() - self.first[item]
            self.weights[item] += masks[rows].sum(0, dtype=torch.float64)
            self.weighted[item] += torch.tensordot(beyond.to(masks), masks[rows], 1)
            self.total[item] += beyond.sum()
            self.rounding[item] = torch.maximum(self.rounding[item], rounding[rows].amax())
            self.squares[item] += rounding[rows].double().square().sum()
            self.counts[item] += len(beyond)

    def divide(self) -> Tensor:
        """The mean score [count, height, width] where each pixel is visible, less the first score."""
        mean = self.total / torch.tensor(self.counts).to(self.total)
        return torch.where(self.weights > 0, self.weighted / self.weights, mean[:, None, None])

    def bound_means(self) -> Tensor:
        """What independent roundings of scores make of a difference of two means [count, height, width]; masks are <= 1."""
        mean = (self.squares / torch.tensor(self.counts).to(self.squares)).sqrt()
        return 2 * mean[:, None, None] / self.weights.clamp_min(1).sqrt()


def compute_window_weights(cells: int, side: int) -> Tensor:
    """Compute the bilinear weights of windows that start some pixels into the up-sampled grid: [shifts, side, cells].

    The grid is stretched to cells + 1 times the size of a cell, ceil(side / cells); there are as many shifts as a
    cell has pixels. A mask is weights[top] @ grid @ weights[left]^T.
    """
    cell = -(-side // cells)
    stretched = functional.interpolate(
        torch.eye(cells)[None], size=(cells + 1) * cell, mode="linear", align_corners=False
    )
    return stretched[0].unfold(1, side, 1)[:, :cell].permute(1, 2, 0).contiguous()
