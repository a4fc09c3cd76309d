"""Layer-wise relevance propagation: the score is handed back layer by layer until it arrives at the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from seewhy.core.settings import NonNegative, OneOf, refuse_unread
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.balanced import AttentionRule
from seewhy.explainers._backward_rules.lrp import compute_relevance
from seewhy.explainers._backward_rules.relevance_rules import (
    Rule,
    build_epsilon_rule,
    build_gamma_rule,
    build_z_plus_rule,
)
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.models.batched import BatchedEvaluator

SETTINGS = {
    "composite": ("epsilon", "gamma"),
    "epsilon": ("epsilon",),
    "gamma": ("gamma",),
    "z_plus": (),
    "attn_lrp": ("epsilon", "gamma", "dense_gamma"),
    "cp_lrp": ("epsilon", "gamma", "dense_gamma"),
}
"""Each rule with the numbers that it uses."""
ATTENTION = {"attn_lrp": AttentionRule.SHARED, "cp_lrp": AttentionRule.CONSTANT}
"""The rules that transformers have, and what attention does under each."""
SMALLEST_SCORE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Lrp(Explainer):
    """Relevance of each pixel, summed over the channels; the relevance of the score is its value.

    Batch normalisation is a part of the convolution before it; an activation with f(0) = 0 passes its relevance on; a
    maximum gives all to its largest position, a sum to each term its share; a sigmoid or hard sigmoid that weighs another
    activation (squeeze-and-excitation) takes none. Incompatible at anything else. The gamma and z^B rules compute each
    layer once more, and up to twice on the way back.

    `attn_lrp` and `cp_lrp` are for transformers, and for any other network as well. A normalisation takes its scale for a
    constant; a product of two activations gives half to each. In attention, `cp_lrp` takes the weights for constant, so that
    the values take everything; with `attn_lrp` values and weights take half each, and what the weights get goes through the
    linear part of the softmax to queries and keys. Convolutions and dense layers use the gamma rule, with 0.25 and 0.05 (the
    middle of the grid that the authors' package tries on vit_b_16, no published optimum), or the epsilon rule where gamma is
    0. A product with weights is a dense layer however it is written: `x @ W + b`, addmm, einsum. Tokens and positions that
    are the same for every image absorb their share.

    Fact `conservation_gap_relative`: |sum of the map - score| / |score|. Relevance is conserved from layer to layer except
    for the share of the biases, which is absorbed, and of epsilon: a gap far from 0 is usual for networks with biases, and
    with `attn_lrp`, where the constant part of each softmax absorbs too.
    Bach et al.: On pixel-wise explanations, PLOS ONE 2015. Montavon et al.: Layer-wise relevance propagation: an
    overview, 2019. Ali et al.: XAI for transformers, ICML 2022 (`cp_lrp`). Achtibat et al.: AttnLRP, ICML 2024; LRP is
    patented and, as its authors state, free for personal and scientific purposes.

    Args:
        rule: `composite`: the z^B rule with the bounds 0 and 1 of a pixel in the first layer, the gamma rule in the other
            convolutions, the epsilon rule in dense layers; or `epsilon`, `gamma` or `z_plus` everywhere; or `attn_lrp` or
            `cp_lrp`.
        epsilon: Stabiliser of the epsilon rule, from 0.
        gamma: Weight of the positive contributions in the gamma rule, from 0.
        dense_gamma: The same in the dense layers of `attn_lrp` and `cp_lrp`.
    """

    rule: Annotated[str, OneOf(SETTINGS)] = "composite"
    epsilon: NonNegative = 1e-6
    gamma: NonNegative = 0.25
    dense_gamma: NonNegative = 0.05

    looks_inside: ClassVar[str] = "operations"
    needs_float32: ClassVar[str] = "its rules divide by sums that cancel, so that relevance is not conserved"
    passes: ClassVar[tuple[int, int] | None] = (1, 1)
    is_local: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        unread = {name for names in SETTINGS.values() for name in names} - set(SETTINGS[self.rule])
        refuse_unread(self, "explainer", unread, f"by rule={self.rule}")

    @property
    def parameters(self) -> str:
        """The rule and the numbers that it uses."""
        return ", ".join(f"{key}={getattr(self, key)}" for key in ("rule", *SETTINGS[self.rule]))

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        def propagate(rows: Tensor) -> tuple[Tensor, Tensor]:
            relevance, score = compute_relevance(
                evaluator.classifier,
                images[rows],
                targets[rows],
                *self._build_rules(),
                self.rule == "composite",
                ATTENTION.get(self.rule),
            )
            return relevance.sum(1), score

        maps, score = evaluator.run_passes(propagate, len(images), gradient=True)
        gap = maps.double().sum((1, 2)) - score.double()
        relative = gap.abs() / score.double().abs().clamp_min(SMALLEST_SCORE)
        return AttributionResult(maps, {"conservation_gap_relative": relative.to(maps)})

    def _build_rules(self) -> tuple[Rule, Rule]:
        """(of convolutions, of dense layers)."""
        if self.rule == "z_plus":
            return build_z_plus_rule(), build_z_plus_rule()
        epsilon, gamma = build_epsilon_rule(self.epsilon), build_gamma_rule(self.gamma)
        if self.rule in ATTENTION:
            dense = build_gamma_rule(self.dense_gamma) if self.dense_gamma else epsilon
            return gamma if self.gamma else epsilon, dense
        return {"composite": (gamma, epsilon), "epsilon": (epsilon, epsilon), "gamma": (gamma, gamma)}[self.rule]
