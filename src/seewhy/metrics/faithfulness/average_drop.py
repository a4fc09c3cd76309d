"""Does what the map keeps keep the score: average drop, increase in confidence, and completeness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from seewhy.core.settings import OneOf
from seewhy.core.types import Attributions
from seewhy.explainers.completeness import CompleteExplainer, ScoreChange, measure_completeness
from seewhy.explainers.rounding import bound_score_differences
from seewhy.metrics.base import AMOUNT, SHARE, ImageMetric, MetricContext, Range
from seewhy.metrics.perturbation_curves import order_descending

SMALLEST_SCORE = 1e-6
MASKS = {"soft": "probability", "binary_logit": "logit", "top_half": "probability"}
"""The masks, and the score that is compared under each."""
WORDS = {
    "soft": "kept: image times positive part of the map over its maximum",
    "binary_logit": "kept: pixels with a positive attribution",
    "top_half": "kept: the half of the pixels with the largest attributions",
}


class MaskedScores(NamedTuple):
    """Scores of the target with and without a mask, float64 [batch] each; NaN for a map that is not finite."""

    original: Tensor
    """Y, of the image."""
    masked: Tensor
    """O, of the image times its mask."""
    coverage: Tensor
    """Mean of the mask, from 0 (nothing kept) to 1."""


class MaskMetric(ImageMetric):
    """A metric of the masked image: `mask` is `soft`, `binary_logit` or `top_half` (see `build_masks`).

    All read the two scores of one masked image: in the mean rank of faithfulness counts `average_drop`, as published.

    Args:
        mask: What is kept of the image; the rest is black.

    Raises:
        UserError: If there is no such mask.
    """

    construct = "faithfulness"
    variant_of = "average_drop"
    columns = ("coverage",)
    ranges: Mapping[str, Range] = {"score": Range(0, 100, of_probability=True), "coverage": SHARE}

    def __init__(self, mask: Annotated[str, OneOf(MASKS)] = "soft") -> None:
        super().__init__()
        self.mask = "soft"
        self.mask = mask

    @property
    def name(self) -> str:
        """The metric, followed by the mask where it is not the published one."""
        return super().name if self.mask == "soft" else f"{super().name}_{self.mask}"

    @property
    def reads_probability(self) -> bool:
        """Whether the mask is judged by the probability."""
        return MASKS[self.mask] == "probability"

    @property
    def variant(self) -> str:
        """Mask, baseline and score space."""
        return f"{WORDS[self.mask]}; rest black; score: {MASKS[self.mask]}"


class AverageDrop(MaskMetric):
    """100 max(0, Y - O) / Y in percent, for the score Y of the image and O of the masked image.

    `mask=soft`, as published: image * max(map, 0) / max(map), probability, range 0 to 100. `binary_logit`:
    pixels with a positive attribution, logit, from 0 without an upper limit. `top_half`: the better half of the pixels,
    probability. What is not kept is black. Lower is better.

    A map that is positive everywhere keeps the whole image and scores a perfect 0: read the score together with
    `coverage`, the mean of the mask (from 0, nothing kept, to 1). A map without positive values keeps nothing (but under
    `top_half`). NaN where Y is not above 1e-6 or the map holds a value that is not finite.

    Chattopadhay, Sarkar, Howlader, Balasubramanian: Grad-CAM++, WACV 2018.
    """

    higher_is_better = False

    @property
    def variant(self) -> str:
        """Mask, baseline, score space and denominator."""
        return f"{super().variant}; in percent of the whole image's score, which must be above {SMALLEST_SCORE:g}"

    def find_bounds(self, column: str, has_probabilities: bool = True) -> tuple[float, float | None] | None:
        """Find the range of a column; a drop is never negative, whatever the score."""
        return super().find_bounds(column, has_probabilities) or (0, None)

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compute the drop, with one forward pass for each image, shared with `increase_in_confidence`."""
        scores = compute_masked_scores(context, self.mask)
        drop = 100 * (scores.original - scores.masked).clamp_min(0) / scores.original
        return {"score": drop.where(scores.original > SMALLEST_SCORE, torch.nan), "coverage": scores.coverage}


class IncreaseInConfidence(MaskMetric):
    """100 where Y < O, else 0, for the score Y of the image and O of the masked image; the mean is a percentage.

    Range 0 to 100, higher is better; masks, scores and `coverage` as in `AverageDrop`. A map that is positive everywhere
    can score 100 for the loss of a little background: hence the coverage. NaN where the map holds a value that is not
    finite.

    Chattopadhay, Sarkar, Howlader, Balasubramanian: Grad-CAM++, WACV 2018.
    """

    higher_is_better = True
    outcomes = (0, 100)

    @property
    def variant(self) -> str:
        """Mask, baseline and score space."""
        return f"{super().variant}; 100 where it rises, else 0"

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compare the scores, with one forward pass for each image, shared with `average_drop`."""
        scores = compute_masked_scores(context, self.mask)
        risen = 100 * (scores.original < scores.masked).double()
        return {"score": risen.where(scores.masked.isfinite(), torch.nan), "coverage": scores.coverage}


def compute_masked_scores(context: MetricContext, mask: str) -> MaskedScores:
    """Compute the scores of a batch under a mask once, with one forward pass for each image."""
    return context.compute_once(("masked scores", mask), lambda: _compute_masked_scores(context, mask))


def _compute_masked_scores(context: MetricContext, mask: str) -> MaskedScores:
    maps, finite = context.replace_non_finite()
    space, masks = MASKS[mask], build_masks(maps, mask)
    scores = context.images.new_empty(len(maps))
    for chunk in context.evaluator.split(len(maps), gradient=False):
        logits = context.evaluator.compute_logits(context.images[chunk] * masks[chunk, None])
        scores[chunk] = context.select_scores(logits, space, chunk)
    masked, coverage = scores.double(), masks.double().mean((1, 2))
    undefined = [values.masked_fill(~finite, torch.nan) for values in (masked, coverage)]
    return MaskedScores(context.compute_scores(space).double(), *undefined)


def build_masks(maps: Attributions, mask: str) -> Tensor:
    """Build the masks of finite maps; they keep nothing where no attribution is positive.

    Args:
        maps: float32 [batch, height, width].
        mask: `soft`: max(map, 0) / max(map). `binary_logit`: map > 0. `top_half`: the ceil(pixels / 2) largest, of
            equal attributions the pixels that come first, also where none is positive.

    Returns:
        The share of each pixel that is kept, from 0 to 1 [batch, height, width].
    """
    if mask == "binary_logit":
        return (maps > 0).to(maps)
    if mask == "top_half":
        order = order_descending(maps.flatten(1))
        half = order[:, : -(-order.shape[1] // 2)]
        return torch.zeros_like(maps).flatten(1).scatter_(1, half, 1).view_as(maps)
    positive = maps.clamp_min(0)
    largest = positive.amax((1, 2), keepdim=True)
    return positive / largest.where(largest > 0, 1)


class Completeness(ImageMetric):
    """|sum of the map - (f(x) - f(b))| for the target's logit f and a baseline b, for any explainer.

    b is the explainer's own where it promises completeness, else black. From 0 without an upper limit, lower is better.
    Columns: `relative`, the gap over |f(x) - f(b)| (taken as at least what rounding makes of it), and `change`,
    f(x) - f(b). A map of zeros has the relative gap 1. NaN where a value of the map is not finite.

    Shown, and not in the mean rank of faithfulness: it says whether a method keeps its promise, and of a map that promises
    no sum only in which unit it is.

    Sundararajan, Taly, Yan: Axiomatic attribution for deep networks, ICML 2017.
    """

    construct = "faithfulness"
    in_mean_rank = False
    higher_is_better = False
    needs_float32 = True
    columns = ("relative", "change")
    ranges: Mapping[str, Range] = {"score": AMOUNT, "relative": AMOUNT}

    @property
    def variant(self) -> str:
        """Baseline, score space and denominator."""
        return (
            "absolute gap; baseline: the explainer's own where it has one, else black; score: logit; "
            "relative to the change, at least its rounding"
        )

    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Compute the gap, with a forward pass of each baseline, or those that the explainer takes for its own gap."""
        change = self._compute_change(context)
        maps, finite = context.replace_non_finite()
        facts = measure_completeness(maps, change)
        gap, relative = facts["completeness_gap"].abs(), facts["completeness_gap_relative"]
        undefined = {"score": gap.where(finite, torch.nan), "relative": relative.where(finite, torch.nan)}
        return {**undefined, "change": change.values}

    def _compute_change(self, context: MetricContext) -> ScoreChange:
        if isinstance(context.explainer, CompleteExplainer):
            return context.explainer.compute_change(context.evaluator, context.images, context.targets)
        black = context.compute_baseline_logits("black")
        change = context.compute_scores().double() - context.select_scores(black, "logit").double()
        rounding = bound_score_differences(context.evaluator.classifier, black, context.targets, context.images)
        return ScoreChange(change, rounding)
