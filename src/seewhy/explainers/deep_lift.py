"""DeepLift: what each pixel's difference from a baseline adds to the score, with finite differences as derivatives."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.tensors import widen
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.deep_lift import BaselinePass, PairWatch, Unshared
from seewhy.explainers.base import AttributionResult, CompleteExplainer, describe_completeness_gap, measure_completeness
from seewhy.explainers.baselines import CONSTANT_BASELINES, build_baselines, check_baseline
from seewhy.models.batched import BatchedEvaluator

Baselines = tuple[BaselinePass, Tensor]
"""What a pass of baselines left in the network, and its logits [n or 1, classes]."""


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
            shared = self._pass(evaluator, baselines[:1], shared=True)
            with contextlib.suppress(Unshared):
                return self._explained(evaluator, images, baselines, targets, shared)
        return self._explained(evaluator, images, baselines, targets)

    def _explained(
        self,
        evaluator: BatchedEvaluator,
        images: Images,
        baselines: Images,
        targets: Targets,
        shared: Baselines | None = None,
    ) -> AttributionResult:
        """The maps; with one pass of the baselines for each pass of the images, unless one is shared by all."""

        def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
            own = shared or self._pass(evaluator, baselines[chunk], shared=False)
            multipliers, change = self._multipliers(evaluator, images[chunk], own, targets[chunk])
            return (multipliers * (images[chunk] - baselines[chunk])).sum(1), change

        maps, change = evaluator.in_passes(one, len(images), gradient=True)
        return self._measured(maps, change)

    def _pass(self, evaluator: BatchedEvaluator, baselines: Images, shared: bool) -> Baselines:
        with BaselinePass(shared) as seen:
            return seen, evaluator.classifier(baselines)

    def _multipliers(
        self, evaluator: BatchedEvaluator, images: Images, baselines: Baselines, targets: Targets
    ) -> tuple[Images, Tensor]:
        """(multipliers [n, 3, height, width], f(image) - f(baseline) [n])."""
        leaves = images.requires_grad_()
        seen, baseline_logits = baselines
        watch = PairWatch(evaluator.classifier.network, self.name, "integrated_gradients or occlusion", seen)
        with torch.enable_grad():
            with watch:
                logits = evaluator.classifier(leaves)
            watch.finish()
            scores = targets.score(widen(logits))
            (multipliers,) = torch.autograd.grad(scores.sum(), leaves)
        baseline_scores = targets.score(widen(baseline_logits).expand_as(logits))
        return multipliers, scores.detach().double() - baseline_scores.double()

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
