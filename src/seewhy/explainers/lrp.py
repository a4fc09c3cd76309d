"""Layer-wise relevance propagation: the score is handed back layer by layer until it arrives at the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.lrp import compute_relevance
from seewhy.explainers._backward_rules.relevance_rules import (
    Rule,
    build_epsilon_rule,
    build_gamma_rule,
    build_z_plus_rule,
)
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.models.batched import BatchedEvaluator

RULES = ("composite", "epsilon", "gamma", "z_plus")
SMALLEST_SCORE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Lrp(Explainer):
    """Relevance of each pixel, summed over the channels; the relevance of the logit is its value.

    `rule=composite`: the z^B rule with the bounds 0 and 1 of a pixel in the first layer, the gamma rule in the other
    convolutions, the epsilon rule in dense layers. `epsilon`, `gamma` and `z_plus` use one rule everywhere. Batch
    normalisation is a part of the convolution before it; an activation with f(0) = 0 passes its relevance on; a maximum
    gives all to its largest position, a sum to each term its share; a sigmoid or hard sigmoid that weighs another
    activation (squeeze-and-excitation) takes none. Incompatible at anything else.

    Fact `conservation_gap_relative`: |sum of the map - logit| / |logit|. Relevance is kept from layer to layer except
    for the part of the biases, which is absorbed, and of epsilon: a gap far from 0 is usual for networks with biases.
    Bach et al.: On pixel-wise explanations, PLOS ONE 2015. Montavon et al.: Layer-wise relevance propagation: an
    overview, 2019.
    """

    rule: str = "composite"
    epsilon: float = 1e-6
    gamma: float = 0.25

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UserError(f"explainer.rule={self.rule!r} is none of {', '.join(RULES)}")
        if self.epsilon < 0:
            raise UserError(f"explainer.epsilon={self.epsilon} must not be negative; 1e-6 is usual")
        if self.gamma < 0:
            raise UserError(f"explainer.gamma={self.gamma} must not be negative; 0.25 is usual")

    @property
    def parameters(self) -> str:
        """The rule and the numbers that it uses."""
        used = {"composite": ("epsilon", "gamma"), "epsilon": ("epsilon",), "gamma": ("gamma",), "z_plus": ()}
        return ", ".join([f"rule={self.rule}", *(f"{name}={getattr(self, name)}" for name in used[self.rule])])

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
            relevance, score = compute_relevance(
                evaluator.classifier, images[chunk], targets[chunk], *self._build_rules(), self.rule == "composite"
            )
            return relevance.sum(1), score

        attributions, score = evaluator.run_passes(one, len(images), gradient=True)
        score = score.double()
        gap = attributions.double().sum((1, 2)) - score
        relative = gap.abs() / score.abs().clamp_min(SMALLEST_SCORE)
        return AttributionResult(attributions, {"conservation_gap_relative": relative.float()})

    def _build_rules(self) -> tuple[Rule, Rule]:
        """(of convolutions, of dense layers)."""
        if self.rule == "z_plus":
            return build_z_plus_rule(), build_z_plus_rule()
        epsilon, gamma = build_epsilon_rule(self.epsilon), build_gamma_rule(self.gamma)
        return {"composite": (gamma, epsilon), "epsilon": (epsilon, epsilon), "gamma": (gamma, gamma)}[self.rule]

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way; the gamma and z^B rules compute each layer once more, and up to twice on the way back."""
        return 1, 1
