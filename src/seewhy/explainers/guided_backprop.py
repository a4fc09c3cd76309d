"""Guided backprop: the gradient along paths that are active forwards and supportive backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.autograd.graph import Node

from seewhy.explainers.rules.cut_off import CutRule, guided
from seewhy.explainers.rules.rectified_gradient import RectifiedGradient


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(RectifiedGradient):
    """The gradient of the logit where each ReLU passes g * (its argument > 0) * (g > 0) backwards.

    Summed over the channels, or with `reduction=max` the largest |.|. Nearly independent of the weights of the later
    layers (Adebayo et al., Sanity checks for saliency maps, 2018): a picture of the image more than of the decision.
    Springenberg et al.: Striving for simplicity: the all convolutional net, 2015.
    """

    rule: ClassVar[CutRule] = staticmethod(guided)

    def change_rule(self, rectifier: Node) -> None:
        """Negative gradients stop behind the ReLU's own rule, in the memory that this has just written."""

        def guide(inner: tuple, outer: object) -> tuple:  # type: ignore[type-arg]
            return inner[0].clamp_(min=0), *inner[1:]

        rectifier.register_hook(guide)
