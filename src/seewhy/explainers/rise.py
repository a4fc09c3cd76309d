"""RISE: the average score of randomly masked images in which a pixel is visible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import UserError, check_choice, check_whole_number
from seewhy.core.random import seed_generator
from seewhy.core.tensors import iterate_runs
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.superpixels import BLOCK
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class Rise(Explainer):
    """1 / (probability n) * sum over masks M of score(image * M) M, less its smallest value.

    One of the n masks, with values in [0, 1], is a grid of `cells` x `cells` bits, up-sampled bilinearly to one cell more
    than the image and cut out at a random position. Only differences within a map mean anything: fact `smallest` is what
    was subtracted; with it the map is the published one, an estimate of the score given that the pixel is visible.
    Petsiuk, Das, Saenko: RISE, randomized input sampling for explanation of black-box models, BMVC 2018.

    Args:
        n_masks: Masks of each image, from 1.
        cells: Side of the grid of bits, from 1 to that of the image in pixels.
        probability: That a bit is 1, above 0 and at most 1.
        score: `probability`, the target's, as published, or its `logit`.
    """

    n_masks: int = 4000
    cells: int = 7
    probability: float = 0.5
    score: str = "probability"

    signed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_whole_number("explainer.n_masks", self.n_masks)
        check_whole_number("explainer.cells", self.cells)
        if not 0 < self.probability <= 1:
            raise UserError(f"explainer.probability={self.probability} must be above 0 and at most 1, such as 0.5")
        check_choice("explainer.score", self.score, ("probability", "logit"))

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        height, width = images.shape[2:]
        if self.cells > min(height, width):
            raise UserError(f"explainer.cells={self.cells} is more than the {min(height, width)} pixels of the image")
        down, across = (compute_window_weights(self.cells, side).to(images) for side in (height, width))
        generators = [seed_generator(self.seed, image, "rise") for image in images]
        maps = torch.zeros_like(images[:, 0])
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
                self._add(maps, evaluator, images, targets, rows // count, masks)
        maps /= self.probability * self.n_masks
        smallest = maps.amin((1, 2))
        return AttributionResult(maps - smallest[:, None, None], {"smallest": smallest})

    def _add(
        self, maps: Tensor, evaluator: BatchedEvaluator, images: Images, targets: Targets, image: Tensor, masks: Tensor
    ) -> None:
        """Add score * mask of each mask [n, height, width] of the images with these indices [n]."""
        masked, stretches = images.new_empty(len(image), *images.shape[1:]), list(iterate_runs(image))
        for item, rows in stretches:
            torch.mul(images[item], masks[rows, None], out=masked[rows])
        logits, facts = evaluator.compute_logits(masked), evaluator.classifier.facts
        scores = targets[image].score(facts.compute_probabilities(logits) if self.score == "probability" else logits)
        for item, rows in stretches:
            maps[item] += torch.tensordot(scores[rows], masks[rows], 1)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One forward for each mask."""
        return self.n_masks, 0


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
