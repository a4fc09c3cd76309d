"""Methods whose maps add up to the change of the score, f(image) - f(baseline), and how far they miss it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.settings import Positive
from seewhy.core.types import Attributions, Images, Targets
from seewhy.explainers.base import AttributionResult, ChannelExplainer, Explainer
from seewhy.explainers.baselines import Baseline, build_baselines
from seewhy.explainers.rounding import compute_scores_with_rounding
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True)
class ScoreChange:
    """f(image) - f(baseline) of each image."""

    values: Tensor
    """Float64 [batch]."""
    rounding: Tensor
    """What rounding may make of it, float64 [batch]."""


@dataclass(frozen=True, kw_only=True)
class CompleteExplainer(Explainer):
    """A method whose maps add up to f(image) - f(baseline); how far each misses that is measured.

    Facts: `completeness_gap` and `completeness_gap_relative`.

    Args:
        tolerance: Relative gap, above 0, from which a map has a warning in the figure, the table and the terminal.
        strict: Whether a larger gap is an error instead of a warning.
    """

    tolerance: Positive = 0.01
    strict: bool = False

    unprinted: ClassVar[frozenset[str]] = Explainer.unprinted | {"tolerance", "strict"}

    def list_warnings(self, facts: Mapping[str, float]) -> list[str]:
        """List a completeness gap over the tolerance.

        Args:
            facts: Those of one map.

        Returns:
            At most one sentence.
        """
        gap = describe_completeness_gap(facts["completeness_gap_relative"], self.tolerance)
        return [gap] if gap else []

    @abstractmethod
    def compute_change(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> ScoreChange:
        """Compute what each map should add up to: f(image) - f(baseline).

        Args:
            evaluator: Runs the network in batches of bounded size.
            images: Float [batch, channels, height, width] in [0, 1].
            targets: A target for each image.

        Returns:
            The change of the score, and its rounding.
        """

    def add_completeness(
        self, maps: Attributions, change: ScoreChange, facts: Mapping[str, Tensor] | None = None
    ) -> AttributionResult:
        """Add the completeness gaps and the floor to maps and other facts.

        The floor of a value is its share of the rounding of the change: with it a map counts as zero where its absolute
        values add up to less than that.

        Args:
            maps: [batch, height, width].
            change: What each map should add up to.
            facts: Other facts, [batch] each.

        Returns:
            The maps with all facts.

        Raises:
            UserError: If `strict` is set and a relative gap is above the tolerance.
        """
        measured = measure_completeness(maps, change)
        worst = float(measured["completeness_gap_relative"].max())
        if self.strict and not worst <= self.tolerance:
            raise UserError(
                f"{self.name}: {describe_completeness_gap(worst, self.tolerance)}, and explainer.strict=true; "
                "use more steps, another method, or a larger explainer.tolerance"
            )
        return AttributionResult(maps, {**(facts or {}), **measured}, share_rounding(maps, change.rounding))


@dataclass(frozen=True, kw_only=True)
class BaselineExplainer(CompleteExplainer):
    """A method that compares each image with a baseline of a given name.

    Args:
        baseline: black, white, grey, mean, blurred, noise or uniform.
    """

    baseline: Baseline = "black"

    def build_baselines(self, images: Images) -> Images:
        """Build the baselines of images [batch, channels, height, width]."""
        return build_baselines(self.baseline, images, self.seed)

    def compute_change(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> ScoreChange:
        """Compute f(image) - f(baseline) with two forward passes for each image."""
        return compare_scores(evaluator, images, self.build_baselines(images), targets)


@dataclass(frozen=True, kw_only=True)
class CompleteChannelExplainer(ChannelExplainer, CompleteExplainer):
    """A method with a value for every channel of a pixel, whose maps add up to f(image) - f(baseline)."""

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        maps = self.reduce(self.attribute_channels(evaluator, images, targets))
        return self.add_completeness(maps, self.compute_change(evaluator, images, targets))


def compare_scores(evaluator: BatchedEvaluator, images: Images, baselines: Images, targets: Targets) -> ScoreChange:
    """Compute f(image) - f(baseline) of images and baselines of the same shape."""
    scores, rounding = compute_scores_with_rounding(evaluator, torch.cat([images, baselines]), targets.repeat(2))
    (full, empty), bounds = scores.double().view(2, -1), rounding.double().view(2, -1)
    return ScoreChange(full - empty, bounds.amax(0))


def share_rounding(maps: Attributions, rounding: Tensor) -> Tensor:
    """Share the rounding of a sum between its terms: the part of it that belongs to the largest value of each map.

    Args:
        maps: [batch, height, width].
        rounding: Of what each map adds up to, [batch].

    Returns:
        The floor [batch]: the largest |value| is below it where all |values| add up to less than the rounding.
    """
    values = maps.double().abs().flatten(1)
    total = values.sum(1)
    return rounding.to(values) * torch.where(total > 0, values.amax(1) / total, 1.0)


def measure_completeness(maps: Attributions, change: ScoreChange) -> dict[str, Tensor]:
    """Measure how far maps are from adding up to the change of the score.

    gap = sum over pixels of the map - (f(image) - f(baseline)); relative to |f(image) - f(baseline)|, or to its rounding
    where that is larger.
    Sundararajan, Taly, Yan: Axiomatic attribution for deep networks, ICML 2017.

    Args:
        maps: [batch, height, width].
        change: f(image) - f(baseline).

    Returns:
        `completeness_gap`, in units of the score and with its sign, and `completeness_gap_relative`; float32 [batch] each.
    """
    return measure_gap(maps.double().sum((1, 2)), change, maps.dtype)


def measure_gap(sums: Tensor, change: ScoreChange, dtype: torch.dtype) -> dict[str, Tensor]:
    """Measure how far sums of attributions are from the change of the score, as `measure_completeness`.

    Args:
        sums: What each map adds up to, float64 [batch].
        change: What it should add up to.
        dtype: Of the result.

    Returns:
        `completeness_gap` and `completeness_gap_relative`, [batch] each.
    """
    values = change.values.to(sums)
    gap = sums - values
    smallest = change.rounding.to(values).clamp_min(torch.finfo(values.dtype).tiny)
    relative = gap.abs() / values.abs().maximum(smallest)
    return {"completeness_gap": gap.to(dtype), "completeness_gap_relative": relative.to(dtype)}


def describe_completeness_gap(relative_gap: float, tolerance: float) -> str | None:
    """Describe a gap that is above the tolerance or not a number, for the figure, the table and the terminal.

    Args:
        relative_gap: The gap as a share of the change of the score.
        tolerance: The largest relative gap that needs no warning.

    Returns:
        A sentence, or None where the gap is within the tolerance.
    """
    if relative_gap <= tolerance:
        return None
    return f"completeness gap {100 * relative_gap:.1f} % exceeds the {100 * tolerance:g} % tolerance"
