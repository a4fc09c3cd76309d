"""Influence-directed explanations: the inner unit with the largest influence, and what in the image drives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.settings import Count, OneOf, PathText, Target, Text, refuse_unread
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.baselines import Baseline, build_baselines
from seewhy.explainers.influence.data_influence import (
    DataInfluence,
    Reduction,
    Slice,
    build_score_weights,
    find_compared_class,
)
from seewhy.explainers.path_integrals import Rule, walk_straight_path
from seewhy.models.batched import BatchedEvaluator

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

DISTRIBUTIONS = ("image", "path", "class", "dataset")
ATTRIBUTIONS = ("input_x_gradient", "gradient", "integrated_gradients")
SIGNS = {"positive": 1.0, "negative": -1.0}


PATH = frozenset({"baseline", "n_steps", "rule"})
"""The fields that say along which path gradients are averaged."""


@dataclass(frozen=True, kw_only=True)
class Expert(Explainer):
    """Expert = the unit j of `layer` with the largest influence chi_j; map = attribution of its activation to the image.

    chi_j = mean of d q / d z_j over a distribution of interest; q is the target's score, or a difference of two. The map is
    summed over the channels. Facts: the unit, its influence with its sign, its activation and how many units with a larger
    influence were passed over.
    Leino, Sen, Datta, Fredrikson, Li: Influence-directed explanations for deep convolutional networks, ITC 2018.

    Args:
        layer: Dotted name of a module; None: the classifier's `influence_layer`.
        reduction: Of the positions of a channel to a unit: `mean` or `max`.
        distribution: `image` (the image itself), `path` (from `baseline` to the image, times z - z(baseline): internal
            integrated gradients), `class` (images of the target's class) or `dataset`, both from `influences`.
        against: A class, or `runner_up`, the strongest other class, whose score is taken off the target's; None: none.
        sign: The expert has the most `positive`, `negative` or `absolute` influence.
        alive: Whether units that are 0 on the image are passed over, since nothing in the image moves them.
        attribution: Of the unit: `input_x_gradient`, `gradient` or `integrated_gradients`.
        influences: File that the callback `experts` writes.
        baseline: Where paths start: black, white, grey, mean, blurred, noise or uniform.
        n_steps: Nodes of a path, from 1.
        rule: Of the path integrals, as in integrated gradients.
    """

    layer: Text | None = None
    reduction: Reduction = "mean"
    distribution: Annotated[str, OneOf(DISTRIBUTIONS)] = "image"
    against: Target | None = None
    sign: Annotated[str, OneOf((*SIGNS, "absolute"))] = "positive"
    alive: bool = True
    attribution: Annotated[str, OneOf(ATTRIBUTIONS)] = "input_x_gradient"
    influences: PathText | None = None
    baseline: Baseline = "black"
    n_steps: Count = 50
    rule: Rule = "gauss_legendre"

    looks_inside: ClassVar[str] = "layers"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distribution in ("class", "dataset") and self.influences is None:
            raise UserError(
                f"explainer.distribution={self.distribution} needs explainer.influences=<file>: the influences.safetensors "
                "of a run with callbacks=experts, or ${output}/influences.safetensors of the same run"
            )
        if self.distribution not in ("class", "dataset"):
            refuse_unread(self, "explainer", ("influences",), f"with distribution={self.distribution}")
        if not self._walks:
            reason = f"with distribution={self.distribution} and attribution={self.attribution}, which walk no path"
            refuse_unread(self, "explainer", PATH, reason)

    def _resolve(self, classifier: Classifier, size: tuple[int, int]) -> Expert:
        """Name the layer that is used."""
        return replace(self, layer=Slice(classifier, self.layer, self.reduction).name)

    def check_names(self, classifier: Classifier) -> None:
        """Check the names of the layer and of the compared class.

        Args:
            classifier: The network that will be explained.
        """
        super().check_names(classifier)
        classes = len(classifier.facts.classes)
        first = Targets.of(torch.zeros(1, dtype=torch.int64))
        find_compared_class(self.against, torch.zeros(1, classes), first, classifier.facts.classes)

    @property
    def unprinted(self) -> frozenset[str]:  # type: ignore[override]
        """Also the path where none is walked."""
        path = frozenset() if self._walks else PATH
        return Explainer.unprinted | {"alive", "influences"} | path

    @property
    def is_local(self) -> bool:  # type: ignore[override]
        """Whether all gradients are taken at the image itself."""
        return not self._walks

    @property
    def _walks(self) -> bool:
        return self.distribution == "path" or self.attribution == "integrated_gradients"

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        layer = Slice(evaluator.classifier, self.layer, self.reduction)
        output, logits = layer.compute_activations(evaluator, images)
        against = find_compared_class(self.against, logits, targets, evaluator.classifier.facts.classes)
        activations = layer.reduce_to_units(output, images)
        influence = self._compute_influence(evaluator, layer, images, targets, against, output)
        units, passed_over = self._choose_units(influence, activations)
        maps = self._attribute_units(evaluator, layer, images, units).sum(1)
        if against is not None:
            maps = maps * (targets.classes != against)[:, None, None]
        rows = torch.arange(len(images), device=images.device)
        facts = {"expert": units, "influence": influence[rows, units], "activation": activations[rows, units]}
        return AttributionResult(maps, {**facts, "passed_over": passed_over})

    def _compute_influence(
        self,
        evaluator: BatchedEvaluator,
        layer: Slice,
        images: Images,
        targets: Targets,
        against: Tensor | None,
        output: Tensor,
    ) -> Tensor:
        """chi [batch, units] of every image."""
        if self.influences is not None and self.distribution in ("class", "dataset"):
            influences = DataInfluence.read(Path(self.influences), evaluator.classifier, layer)
            return influences.select_scores(targets, against, over_dataset=self.distribution == "dataset")
        weights = build_score_weights(targets, against, len(evaluator.classifier.facts.classes))
        if self.distribution == "image":
            _, gradient = layer.compute_influence(evaluator, images, weights[:, None])
            return layer.reduce_to_units(gradient[:, 0], images)
        baselines = build_baselines(self.baseline, images, self.seed)
        start, _ = layer.compute_activations(evaluator, baselines)
        average = torch.zeros_like(output)
        for image, share, points in self._walk_path(evaluator, images, baselines):
            _, gradient = layer.compute_influence(evaluator, points, weights[image][:, None])
            average.index_add_(0, image, gradient[:, 0] * share.view(-1, *(1,) * (output.ndim - 1)))
        return layer.reduce_to_units(average * (output - start), images)

    def _choose_units(self, influence: Tensor, activations: Tensor) -> tuple[Tensor, Tensor]:
        """(expert [batch], units with more influence that were passed over [batch])."""
        ranked = influence.abs() if self.sign == "absolute" else SIGNS[self.sign] * influence
        usable = (activations != 0) | (~(activations != 0).any(1, keepdim=True)) | (not self.alive)
        units = ranked.masked_fill(~usable, -torch.inf).argmax(1)
        return units, ((ranked > ranked.gather(1, units[:, None])) & ~usable).sum(1).float()

    def _attribute_units(self, evaluator: BatchedEvaluator, layer: Slice, images: Images, units: Tensor) -> Images:
        """The attribution [batch, 3, height, width] of each image's expert."""
        if self.attribution != "integrated_gradients":
            _, gradient = layer.compute_unit_gradient(evaluator, images, units)
            return gradient if self.attribution == "gradient" else images * gradient
        baselines = build_baselines(self.baseline, images, self.seed)
        average = torch.zeros_like(images)
        for image, share, points in self._walk_path(evaluator, images, baselines):
            _, gradient = layer.compute_unit_gradient(evaluator, points, units[image])
            average.index_add_(0, image, gradient * share[:, None, None, None])
        return average * (images - baselines)

    def _walk_path(
        self, evaluator: BatchedEvaluator, images: Images, baselines: Images
    ) -> Iterator[tuple[Tensor, Tensor, Images]]:
        return walk_straight_path(evaluator, images, baselines, self.rule, self.n_steps)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One forward for the activations, one way each for the influence and the map, or `n_steps` along a path."""
        influence = {"image": 1, "path": self.n_steps}.get(self.distribution, 0)
        drawn = self.n_steps if self.attribution == "integrated_gradients" else 1
        start = 1 if self.distribution == "path" else 0
        return 1 + start + influence + drawn, influence + drawn
