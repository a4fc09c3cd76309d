"""Methods whose maps add up to the change of the score, f(image) - f(baseline), and how far they miss it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Attributions, Images, Targets
from seewhy.explainers.base import AttributionResult, ChannelExplainer, Explainer
from seewhy.explainers.baselines import build_baselines, check_baseline
from seewhy.models.batched import BatchedEvaluator

SMALLEST_CHANGE = 1e-6
"""A smaller change of the score counts as this large in relative gaps."""


@dataclass(frozen=True, kw_only=True)
class CompleteExplainer(Explainer):
    """A method whose maps add up to f(image) - f(baseline); how far each misses that is measured.

    Facts: `completeness_gap` and `completeness_gap_relative`.

    Args:
        tolerance: Relative gap, above 0, from which a map has a warning in the figure, the table and the terminal.
        strict: Whether a larger gap is an error instead of a warning.
    """

    tolerance: float = 0.01
    strict: bool = False

    unprinted: ClassVar[frozenset[str]] = Explainer.unprinted | {"tolerance", "strict"}

    def __post_init__(self) -> None:
        if self.tolerance <= 0:
            raise UserError(f"explainer.tolerance={self.tolerance} must be above 0: it is a share, such as 0.01")

    @abstractmethod
    def compute_change(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Tensor:
        """Compute what each map should add up to: f(image) - f(baseline).

        Args:
            evaluator: Runs the network in batches of bounded size.
            images: Float [batch, channels, height, width] in [0, 1].
            targets: A target for each image.

        Returns:
            Float64 [batch].
        """

    def add_completeness(
        self, maps: Attributions, change: Tensor, facts: Mapping[str, Tensor] | None = None
    ) -> AttributionResult:
        """Add the completeness gaps to maps and other facts.

        Args:
            maps: [batch, height, width].
            change: What each map should add up to, [batch].
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
        return AttributionResult(maps, {**(facts or {}), **measured})


@dataclass(frozen=True, kw_only=True)
class BaselineExplainer(CompleteExplainer):
    """A method that compares each image with a baseline of a given name.

    Args:
        baseline: black, white, grey, mean, blurred, noise or uniform.
    """

    baseline: str = "black"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_baseline(self.baseline)

    def build_baselines(self, images: Images) -> Images:
        """Build the baselines of images [batch, channels, height, width]."""
        return build_baselines(self.baseline, images, self.seed)

    def compute_change(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Tensor:
        """Compute f(image) - f(baseline) with two forward passes for each image."""
        return compare_scores(evaluator, images, self.build_baselines(images), targets)


@dataclass(frozen=True, kw_only=True)
class CompleteChannelExplainer(ChannelExplainer, CompleteExplainer):
    """A method with a value for every channel of a pixel, whose maps add up to f(image) - f(baseline)."""

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        maps = self.reduce(self.attribute_channels(evaluator, images, targets))
        return self.add_completeness(maps, self.compute_change(evaluator, images, targets))


def compare_scores(evaluator: BatchedEvaluator, images: Images, baselines: Images, targets: Targets) -> Tensor:
    """Compute f(image) - f(baseline), float64 [batch], of images and baselines of the same shape."""
    scores = evaluator.compute_scores(torch.cat([images, baselines]), targets.repeat(2)).double()
    return scores[: len(images)] - scores[len(images) :]


def measure_completeness(maps: Attributions, change: Tensor) -> dict[str, Tensor]:
    """Measure how far maps are from adding up to the change of the score.

    gap = sum over pixels of the map - (f(image) - f(baseline)); relative to |f(image) - f(baseline)|.
    Sundararajan, Taly, Yan: Axiomatic attribution for deep networks, ICML 2017.

    Args:
        maps: [batch, height, width].
        change: f(image) - f(baseline), [batch].

    Returns:
        `completeness_gap`, in units of the score and with its sign, and `completeness_gap_relative`; float32 [batch] each.
    """
    gap = maps.double().sum((1, 2)) - change.double()
    relative = gap.abs() / change.double().abs().clamp_min(SMALLEST_CHANGE)
    return {"completeness_gap": gap.to(maps), "completeness_gap_relative": relative.to(maps)}


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
    return f"completeness gap {100 * relative_gap:.1f} % is over {100 * tolerance:g} %"
