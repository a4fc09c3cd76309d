"""The gradient with another backward rule at every rectifier: what guided backprop and deconvolution share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.autograd.graph import Node

from seewhy.errors import UserError
from seewhy.explainers.base import Attributed, Explainer
from seewhy.explainers.rules.cut_off import CutRule
from seewhy.explainers.rules.rectifiers import RectifierWatch, step_of
from seewhy.precision import widen
from seewhy.probe import Probe
from seewhy.types import Images, Targets


@dataclass(frozen=True, kw_only=True)
class RectifiedGradient(Explainer):
    """d logit / d image under a changed rule at each ReLU; `reduction` over the channels: `sum`, or `max` of |.|.

    The rule is set on the autograd graph of the very pass that is differentiated: the network is not touched. ReLU6
    counts as a ReLU followed by min(., 6). Incompatible where an activation is no rectifier.
    """

    reduction: str = "sum"

    rule: ClassVar[CutRule]
    """The backward rule of a rectifier that runs as a step."""

    def __post_init__(self) -> None:
        if self.reduction not in ("sum", "max"):
            raise UserError(f"explainer.reduction={self.reduction!r} must be sum or max")

    @abstractmethod
    def change_rule(self, rectifier: Node) -> None:
        """Set the same backward rule at a rectifier that autograd runs itself."""

    def rectified_gradient(self, probe: Probe, images: Images, targets: Targets) -> Images:
        """The changed gradient [batch, 3, height, width] of the target's logit."""
        gradients = []
        for chunk in probe.chunks(len(images), gradient=True):
            leaves = images[chunk].requires_grad_()
            watch = RectifierWatch(probe.classifier.network, self.name, "smooth_grad or integrated_gradients")
            with torch.enable_grad():
                with watch:
                    logits = probe.classifier(leaves)
                for rectifier in watch.rectifiers():
                    step = step_of(rectifier)
                    if step is None:
                        self.change_rule(rectifier)
                    else:
                        step.rule = type(self).rule
                score = widen(logits).gather(1, targets[chunk][:, None]).sum()
                gradients.append(torch.autograd.grad(score, leaves)[0])
        return torch.cat(gradients)

    def _attribute(self, probe: Probe, images: Images, targets: Targets) -> Attributed:
        gradient = self.rectified_gradient(probe, images, targets)
        return Attributed(gradient.sum(1) if self.reduction == "sum" else gradient.abs().amax(1))

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way."""
        return 1, 1
