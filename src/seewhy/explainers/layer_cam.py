"""LayerCAM: every position of every channel has its own weight, which also suits early, finer layers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seewhy.explainers.cam import GradientCam


@dataclass(frozen=True, kw_only=True)
class LayerCam(GradientCam):
    """ReLU(sum_k ReLU(g_k) * A_k), g = d logit / d A, enlarged bilinearly. Never negative; not normalised.

    Jiang et al.: LayerCAM, IEEE Transactions on Image Processing 2021.
    """

    def combine(self, features: Tensor, gradient: Tensor) -> Tensor:
        """sum_k ReLU(g_k) A_k."""
        return (gradient.relu() * features).sum(1)
