"""DeepLift: what each pixel's difference from a baseline adds to the score, with finite differences as derivatives."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.deep_lift import (
    BaselineRecording,
    UnsharedBaseline,
    compute_multipliers,
    record_baselines,
)
from seewhy.explainers.base import AttributionResult
from seewhy.explainers.baselines import CONSTANT_BASELINES
from seewhy.explainers.completeness import BaselineExplainer, ScoreChange
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class DeepLift(BaselineExplainer):
    """m * (x - b) summed over the channels; m is the gradient with each nonlinearity's derivative replaced.

    Rescale rule for every elementwise function: (f(x) - f(b)) / (x - b). A product of two activations passes back the
    mean of the other factor over image and baseline; the change of a maximum goes to the image's largest position
    where it rose and is taken from the baseline's where it fell; softmax and layer, group and root mean square
    normalisation have closed forms, with which attention is complete however it is spelled. Each rule is exact, hence the
    whole map is complete, for modules, functions, methods, in-place and re-used activations alike. Incompatible at any
    other nonlinear function (division by an activation, a norm). b is the image whose activations are the reference.
    Shrikumar, Greenside, Kundaje: Learning important features through propagating activation differences, ICML 2017.
    """

    looks_inside: ClassVar[str] = "operations"
    needs_float32: ClassVar[str] = (
        "its multipliers are quotients of differences, which rounding decides where they are small"
    )

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        baselines = self.build_baselines(images)
        if self.baseline in CONSTANT_BASELINES:
            shared = record_baselines(evaluator.classifier, baselines[:1], shared=True)
            with contextlib.suppress(UnsharedBaseline):
                return self._explain(evaluator, images, baselines, targets, shared)
        return self._explain(evaluator, images, baselines, targets)

    def _explain(
        self,
        evaluator: BatchedEvaluator,
        images: Images,
        baselines: Images,
        targets: Targets,
        shared: BaselineRecording | None = None,
    ) -> AttributionResult:
        """The maps; with one pass of the baselines for each pass of the images, unless one is shared by all."""

        def explain(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            recording = shared
            if recording is None:
                recording = record_baselines(evaluator.classifier, baselines[rows], shared=False)
            multipliers, change, rounding = compute_multipliers(
                evaluator.classifier, images[rows], targets[rows], recording
            )
            return (multipliers * (images[rows] - baselines[rows])).sum(1), change, rounding

        maps, change, rounding = evaluator.run_passes(explain, len(images), gradient=True)
        return self.add_completeness(maps, ScoreChange(change, rounding))

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """The image each way, and forwards its baseline unless all share one; the completeness gap costs nothing."""
        return 2 - self.passes_per_call(), 1

    def passes_per_call(self) -> int:
        """One for a baseline that is the same for every image."""
        return int(self.baseline in CONSTANT_BASELINES)
