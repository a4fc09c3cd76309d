"""What a row of the table is, and the ways to bring both sides to one convention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from oracles.networks import ALL, Case
from seewhy.explainers.base import Explainer
from seewhy.explainers.integrated_gradients import IntegratedGradients

Maps = Callable[[Case], Tensor]


@dataclass(frozen=True)
class Row:
    """One method beside one peer. `ours` and `case` adapt our side and the network, as `notes` says."""

    method: Explainer
    peer: str
    theirs: Maps
    tolerance: float
    notes: str = ""
    exceptions: Mapping[str, str] = field(default_factory=dict)
    ours: Maps | None = None
    case: Callable[[Case], Case] = lambda case: case

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(name for name in ALL if name not in self.exceptions)

    def maps(self, case: Case) -> Tensor:
        if self.ours is not None:
            return self.ours(case)
        return self.method(case.classifier, case.images, case.targets)


SCORE_LAYERS = {"efficientnet_lite0": "blocks.2", "squeezenet": "features.2", "vgg16": "features.4"}


def first(case: Case) -> Case:
    """With one image, where the peer takes many single passes."""
    return replace(case, images=case.images[:1], targets=case.targets[:1])


def early(case: Case) -> Case:
    """With a layer of few channels: each costs a pass on both sides."""
    return replace(case, layer=SCORE_LAYERS.get(case.classifier.name, case.layer))


def largest(values: Tensor) -> Tensor:
    return values.abs().amax(1).detach()


def total(values: Tensor) -> Tensor:
    return values.sum(1).detach()


def pair_weights(n_steps: int) -> Maps:
    """PAIR gives n nodes from end to end the weight 1 / n each: riemann_left with n - 1 steps, and the last node.

    From the baseline `noise`: table.py says why.
    """

    def maps(case: Case) -> Tensor:
        rules = (("riemann_left", n_steps - 1), ("riemann_right", 1))
        parts = [
            IntegratedGradients(n_steps=steps, rule=rule, baseline="noise", probe_batch_size=8)(
                case.classifier, case.images, case.targets
            )
            for rule, steps in rules
        ]
        return (parts[0] * (n_steps - 1) + parts[1]) / n_steps

    return maps


def up_to_a_factor(maps: Maps) -> Maps:
    def scaled(case: Case) -> Tensor:
        found = maps(case)
        return found / found.amax((1, 2), keepdim=True)

    return scaled
