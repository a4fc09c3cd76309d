"""Deconvolution: the way back through the network with a ReLU on the signal instead of on the activations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.autograd.graph import Node

from seewhy.explainers.rules.cut_off import CutRule, deconvolved
from seewhy.explainers.rules.rectified_gradient import RectifiedGradient
from seewhy.explainers.rules.rectifiers import upper_bound


@dataclass(frozen=True, kw_only=True)
class Deconvolution(RectifiedGradient):
    """The gradient of the logit where each ReLU passes g * (g > 0) backwards, whatever its argument was.

    Summed over the channels, or with `reduction=max` the largest |.|.
    Zeiler, Fergus: Visualizing and understanding convolutional networks, ECCV 2014.
    """

    rule: ClassVar[CutRule] = staticmethod(deconvolved)

    def change_rule(self, rectifier: Node) -> None:
        """The ReLU's own result is replaced; the bound of a ReLU6 keeps its true derivative."""
        bounded = upper_bound(rectifier)

        def deconvolve(inner: tuple, outer: tuple) -> tuple:  # type: ignore[type-arg]
            if bounded is None:
                signal = outer[0].clamp(min=0)
            else:
                signal = torch.ops.aten.hardtanh_backward(outer[0], bounded[0], -math.inf, bounded[1]).clamp_(min=0)
            return signal, *(None for _ in inner[1:])

        rectifier.register_hook(deconvolve)
