"""What every attribution method is: a value that maps (classifier, images, targets) to one map per image.

Methods that promise completeness: the map adds up to f(image) - f(baseline).
"""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.tensors import is_all_finite
from seewhy.core.types import Attributions, Classes, Images, Targets
from seewhy.models.batched import BatchedEvaluator

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier


@dataclass(frozen=True)
class AttributionResult:
    """Maps [batch, height, width] and further numbers [batch] about each, such as the steps that were used."""

    maps: Attributions
    facts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Explainer(ABC):
    """A frozen set of parameters; calling it leaves the classifier, its modes and all random states as they were.

    `probe_batch_size` bounds how many images are in the network at once (`auto`: the fastest size). `seed` together
    with an image decides every random number, so that a map does not depend on the other images of the run.
    """

    seed: int = 0
    probe_batch_size: int | str = "auto"

    signed: ClassVar[bool] = True
    """Whether negative values mean evidence against the target."""

    @property
    def name(self) -> str:
        """The method's name in snake case, as in its yaml."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(self).__name__).lower()

    @property
    def parameters(self) -> str:
        """The parameters that decide the maps, in words."""
        hidden = {"seed", "probe_batch_size", "incremental"}
        shown = {key: value for key, value in vars(self).items() if key not in hidden and value is not None}
        return ", ".join(f"{key}={value}" for key, value in shown.items())

    def __call__(self, classifier: Classifier, images: Images, targets: Targets | Classes) -> Attributions:
        """Attributions [batch, height, width] for the score of each image's target, float32 as `attribute` says."""
        return self.attribute(classifier, images, targets).maps

    def attribute(self, classifier: Classifier, images: Images, targets: Targets | Classes) -> AttributionResult:
        """The maps together with further numbers about each.

        Images are float32 [batch, 3, height, width] in [0, 1], targets int64 [batch] (a class for each) or weights
        [batch, outputs], maps float32. A network in double precision takes float64 images; then all is computed in
        double precision and the maps are float64. Works under inference mode and under no_grad. UserError for wrong
        shapes or an unsuitable parameter, Incompatible where the network does not allow the method.
        """
        _check(classifier, images, Targets.of(targets))
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.inference_mode(False), torch.no_grad(), classifier.frozen(), torch.random.fork_rng(devices=devices):
            copies, weighted = images.detach().clone(), Targets.of(targets).clone()
            evaluator = BatchedEvaluator(classifier, copies[0], self.probe_batch_size)
            result = self._attribute(evaluator, copies, weighted)
        maps = result.maps.detach().to(torch.float64 if images.dtype == torch.float64 else torch.float32)
        expected = (len(images), *images.shape[2:])
        assert maps.shape == expected, f"{self.name} returned {tuple(maps.shape)} instead of {expected}"
        return dataclasses.replace(result, maps=maps)

    @abstractmethod
    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        """The method itself; runs without gradients, on copies, with a frozen classifier."""

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """(forward, backward) passes that one image costs, or None where that is not known beforehand."""
        return None

    def passes_per_call(self) -> int:
        """Forward passes of a call beside those, however many images it has: a baseline that all of them share."""
        return 0


def _check(classifier: Classifier, images: Images, targets: Targets) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise UserError(f"images must be [batch, 3, height, width] with at least one image, not {list(images.shape)}")
    targets.check(len(images), len(classifier.facts.classes))
    if not is_all_finite(images):
        raise UserError("images hold NaN or infinite values")


SMALLEST_CHANGE = 1e-6


@dataclass(frozen=True, kw_only=True)
class CompleteExplainer(Explainer):
    """The promise is measured for every image: facts `completeness_gap` and `completeness_gap_relative`.

    A relative gap above `tolerance` is a warning in the figure, the table and the terminal, or with `strict=true` an
    error.
    """

    tolerance: float = 0.01
    strict: bool = False

    def __post_init__(self) -> None:
        if self.tolerance <= 0:
            raise UserError(f"explainer.tolerance={self.tolerance} must be above 0: it is a share, such as 0.01")

    @abstractmethod
    def build_baselines(self, images: Images) -> Images:
        """The images [batch, 3, height, width] against which the maps are complete."""

    def compute_change(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Tensor:
        """f(image) - f(baseline) [batch]: what each map should add up to."""
        pairs = torch.cat([images, self.build_baselines(images)])
        scores = evaluator.compute_scores(pairs, targets.repeat(2)).double()
        return scores[: len(images)] - scores[len(images) :]

    def add_completeness(
        self,
        evaluator: BatchedEvaluator,
        maps: Attributions,
        images: Images,
        targets: Targets,
        facts: Mapping[str, Tensor] | None = None,
    ) -> AttributionResult:
        """The maps with their gap; UserError where `strict` is set and a gap is above the tolerance."""
        change = self.compute_change(evaluator, images, targets)
        measured = measure_completeness(maps, change)
        worst = float(measured["completeness_gap_relative"].max())
        if self.strict and not worst <= self.tolerance:
            raise UserError(
                f"{self.name}: {describe_completeness_gap(worst, self.tolerance)}, and explainer.strict=true; "
                "use more steps, another method, or a larger explainer.tolerance"
            )
        return AttributionResult(maps, {**(facts or {}), **measured})


def measure_completeness(maps: Attributions, change: Tensor) -> dict[str, Tensor]:
    """`completeness_gap` (absolute) and `completeness_gap_relative` [batch] of maps that should sum to `change`.

    gap = sum over pixels of the map - (f(image) - f(baseline)); relative to |f(image) - f(baseline)|.
    Sundararajan, Taly, Yan: Axiomatic attribution for deep networks, ICML 2017.
    """
    gap = maps.double().sum((1, 2)) - change.double()
    relative = gap.abs() / change.double().abs().clamp_min(SMALLEST_CHANGE)
    return {"completeness_gap": gap.float(), "completeness_gap_relative": relative.float()}


def describe_completeness_gap(relative_gap: float, tolerance: float) -> str | None:
    """A sentence for the figure, the table and the terminal where the gap is above the tolerance (or not a number)."""
    if relative_gap <= tolerance:
        return None
    return f"completeness gap {100 * relative_gap:.1f} % is over {100 * tolerance:g} %"
