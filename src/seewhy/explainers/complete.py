"""Methods that promise completeness: the map adds up to f(image) - f(baseline)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.errors import UserError
from seewhy.explainers.base import Attributed, Explainer
from seewhy.probe import Probe
from seewhy.types import Attributions, Images, Targets

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
    def baselines(self, images: Images) -> Images:
        """The images [batch, 3, height, width] against which the maps are complete."""

    def change(self, probe: Probe, images: Images, targets: Targets) -> Tensor:
        """f(image) - f(baseline) [batch]: what each map should add up to."""
        pairs = torch.cat([images, self.baselines(images)])
        scores = probe.scores(pairs, targets.repeat(2)).double()
        return scores[: len(images)] - scores[len(images) :]

    def with_completeness(
        self,
        probe: Probe,
        maps: Attributions,
        images: Images,
        targets: Targets,
        facts: Mapping[str, Tensor] | None = None,
    ) -> Attributed:
        """The maps with their gap; UserError where `strict` is set and a gap is above the tolerance."""
        change = self.change(probe, images, targets)
        measured = completeness_facts(maps, change)
        worst = float(measured["completeness_gap_relative"].max())
        if self.strict and not worst <= self.tolerance:
            raise UserError(
                f"{self.name}: {completeness_warning(worst, self.tolerance)}, and explainer.strict=true; "
                "use more steps, another method, or a larger explainer.tolerance"
            )
        return Attributed(maps, {**(facts or {}), **measured})


def completeness_facts(maps: Attributions, change: Tensor) -> dict[str, Tensor]:
    """`completeness_gap` (absolute) and `completeness_gap_relative` [batch] of maps that should sum to `change`.

    gap = sum over pixels of the map - (f(image) - f(baseline)); relative to |f(image) - f(baseline)|.
    Sundararajan, Taly, Yan: Axiomatic attribution for deep networks, ICML 2017.
    """
    gap = maps.double().sum((1, 2)) - change.double()
    relative = gap.abs() / change.double().abs().clamp_min(SMALLEST_CHANGE)
    return {"completeness_gap": gap.float(), "completeness_gap_relative": relative.float()}


def completeness_warning(relative_gap: float, tolerance: float) -> str | None:
    """A sentence for the figure, the table and the terminal where the gap is above the tolerance (or not a number)."""
    if relative_gap <= tolerance:
        return None
    return f"completeness gap {100 * relative_gap:.1f} % is over {100 * tolerance:g} %"
