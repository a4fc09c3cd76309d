"""Deconvolution: the way back through the network with a ReLU on the signal instead of on the activations."""

from __future__ import annotations

from dataclasses import dataclass

from torch.autograd.graph import Node

from seewhy.explainers.rules.rectified_gradient import RectifiedGradient
from seewhy.explainers.rules.rectifiers import below_upper_bound


@dataclass(frozen=True, kw_only=True)
class Deconvolution(RectifiedGradient):
    """The gradient of the logit where each ReLU passes g * (g > 0) backwards, whatever its argument was.

    Summed over the channels, or with `reduction=max` the largest |.|.
    Zeiler, Fergus: Visualizing and understanding convolutional networks, ECCV 2014.
    """

    def change_rule(self, rectifier: Node) -> None:
        """The ReLU's own result is replaced; the bound of a ReLU6 keeps its true derivative."""
        below = below_upper_bound(rectifier)

        def deconvolve(inner: object, outer: tuple) -> tuple:  # type: ignore[type-arg]
            positive = outer[0].clamp(min=0)
            return ((positive if below is None else positive * below),) + (None,) * (len(inner) - 1)  # type: ignore[arg-type]

        rectifier.register_hook(deconvolve)
