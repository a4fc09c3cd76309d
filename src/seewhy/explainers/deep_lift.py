"""DeepLift: what each pixel's difference from a baseline adds to the score, with finite differences as derivatives."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.deep_lift import (
    BaselineRecording,
    UnsharedBaseline,
    compute_multipliers,
    record_baselines,
)
from seewhy.explainers.base import AttributionResult, CompleteExplainer, describe_completeness_gap, measure_completeness
from seewhy.explainers.baselines import CONSTANT_BASELINES, build_baselines, check_baseline
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class DeepLift(CompleteExplainer):
    """m * (x - b) summed over the channels; m is the gradient with each nonlinearity's derivative replaced.

    Rescale rule for every elementwise function: (f(x) - f(b)) / (x - b). A product of two activations passes back the
    mean of the other factor over image and baseline; the change of a maximum goes to the image's largest position
    where it rose and is taken from the baseline's where it fell. Each rule is exact, hence the whole map is complete,
    for modules, functions, methods, in-place and re-used activations alike. Incompatible at any other nonlinear
    function (softmax, layer normalisation, division by an activation).
    Shrikumar, Greenside, Kundaje: Learning important features through propagating activation differences, ICML 2017.
    """

    baseline: str = "black"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_baseline(self.baseline)

    @property
    def parameters(self) -> str:
        """The baseline decides the map."""
        return f"baseline={self.baseline}"

    def build_baselines(self, images: Images) -> Images:
        """The images whose activations are the reference."""
        return build_baselines(self.baseline, images, self.seed)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        baselines = self.build_baselines(images)
        if self.baseline in CONSTANT_BASELINES:
            shared = record_baselines(evaluator.classifier, baselines[:1], shared=True)
            with contextlib.suppress(UnsharedBaseline):
                return self._explained(evaluator, images, baselines, targets, shared)
        return self._explained(evaluator, images, baselines, targets)

    def _explained(
        self,
        evaluator: BatchedEvaluator,
        images: Images,
        baselines: Images,
        targets: Targets,
        shared: BaselineRecording | None = None,
    ) -> AttributionResult:
        """The maps; with one pass of the baselines for each pass of the images, unless one is shared by all."""

        def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
            recording = shared
            if recording is None:
                recording = record_baselines(evaluator.classifier, baselines[chunk], shared=False)
            multipliers, change = compute_multipliers(evaluator.classifier, images[chunk], targets[chunk], recording)
            return (multipliers * (images[chunk] - baselines[chunk])).sum(1), change

        maps, change = evaluator.run_passes(one, len(images), gradient=True)
        return self._measured(maps, change)

    def _measured(self, maps: Tensor, change: Tensor) -> AttributionResult:
        """The maps with their gap, from the scores of the two passes that were made anyway."""
        facts = measure_completeness(maps, change)
        worst = float(facts["completeness_gap_relative"].max())
        if self.strict and not worst <= self.tolerance:
            raise UserError(
                f"{self.name}: {describe_completeness_gap(worst, self.tolerance)}, and explainer.strict=true; "
                "use another method or a larger explainer.tolerance"
            )
        return AttributionResult(maps, facts)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """The image each way, and forwards its baseline unless all share one; the completeness gap costs nothing."""
        return 2 - self.passes_per_call(), 1

    def passes_per_call(self) -> int:
        """One for a baseline that is the same beside every image."""
        return int(self.baseline in CONSTANT_BASELINES)
