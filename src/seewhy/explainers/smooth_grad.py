"""SmoothGrad: the gradient, averaged over noisy copies of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seewhy.explainers.base import Attributed, Explainer
from seewhy.explainers.noise_tunnel import NoiseTunnel, check_noise
from seewhy.explainers.saliency import Saliency
from seewhy.probe import Probe
from seewhy.types import Images, Targets


@dataclass(frozen=True, kw_only=True)
class SmoothGrad(Explainer):
    """max over channels of |mean over noisy copies of d logit / d pixel|, never negative.

    `noise` is the standard deviation as a share of the value range 1. `reduction=sum` gives the signed sum over the
    channels. Smilkov, Thorat, Kim, Viégas, Wattenberg: SmoothGrad: removing noise by adding noise, 2017.
    """

    n_samples: int = 50
    noise: float = 0.15
    reduction: str = "max"

    def __post_init__(self) -> None:
        check_noise(self.n_samples, self.noise)
        Saliency(reduction=self.reduction)

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether the reduction keeps the sign."""
        return self.reduction == "sum"

    def _attribute(self, probe: Probe, images: Images, targets: Targets) -> Attributed:
        gradient = Saliency(reduction=self.reduction)
        tunnel = NoiseTunnel(explainer=gradient, n_samples=self.n_samples, noise=self.noise, seed=self.seed)
        return tunnel._attribute(probe, images, targets)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way for each copy."""
        return self.n_samples, self.n_samples
