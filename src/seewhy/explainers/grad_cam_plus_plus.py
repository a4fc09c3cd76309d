"""Grad-CAM++: Grad-CAM whose positive gradients count alike for every occurrence of the class."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seewhy.explainers.cam import GradientCam, weighted


@dataclass(frozen=True, kw_only=True)
class GradCamPlusPlus(GradientCam):
    """ReLU(sum_k w_k A_k), w_k = sum_ij alpha_kij ReLU(g_kij), enlarged bilinearly; g = d logit / d A_k at (i, j).

    alpha = g^2 / (2 g^2 + S_k g^3) with S_k = sum_ab A_kab. Where g > 0, the only places that count, alpha * g is
    g / (2 + S_k g): computed so, no small constant is needed. The derivation assumes ReLU'd activations; a negative
    S_k counts as 0, which keeps alpha within (0, 1/2]. Never negative; not normalised.
    Chattopadhay et al.: Grad-CAM++, WACV 2018.
    """

    def combine(self, features: Tensor, gradient: Tensor) -> Tensor:
        """sum_k w_k A_k."""
        positive = gradient.relu()
        totals = features.sum((2, 3), keepdim=True).relu()
        return weighted(features, (positive / (2 + totals * positive)).sum((2, 3)))
