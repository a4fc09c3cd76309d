"""Grad-CAM: the channels of the last convolutional stage, weighted by their average gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seewhy.explainers.cam import GradientCam, weighted


@dataclass(frozen=True, kw_only=True)
class GradCam(GradientCam):
    """ReLU(sum over channels k of a_k A_k), a_k = mean over positions of d logit / d A_k, enlarged bilinearly.

    A is the output of `layer` (None: the classifier's own choice). Never negative; not normalised.
    Selvaraju et al.: Grad-CAM, ICCV 2017.
    """

    def combine(self, features: Tensor, gradient: Tensor) -> Tensor:
        """sum_k a_k A_k."""
        return weighted(features, gradient.mean((2, 3)))
