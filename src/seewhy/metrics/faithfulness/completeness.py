"""Completeness: how far the map is from adding up to the change of the score."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.explainers.completeness import CompleteExplainer, ScoreChange, measure_completeness
from seewhy.explainers.rounding import bound_score_differences
from seewhy.metrics.base import ImageMetric, MetricContext


class Completeness(ImageMetric):
    """|sum of the map - (f(x) - f(b))| for the target's logit f and a baseline b, for any explainer.

    b is the explainer's own where it promises completeness, else black. From 0 without an upper limit, lower is better.
    Columns: `relative`, the gap over |f(x) - f(b)| (taken as at least what rounding makes of it), and `change`,
    f(x) - f(b). A map of zeros has the relative gap 1. NaN where a value of the map is not finite.

    Sundararajan, Taly, Yan: Axiomatic attribution for deep networks, ICML 2017.
    """

    construct = "faithfulness"
    higher_is_better = False
    columns = ("relative", "change")

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
