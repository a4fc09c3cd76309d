"""Photon noise as in ImageNet-C."""

from __future__ import annotations

from typing import Any

import albumentations
import numpy as np
from numpy.typing import NDArray


class ShotNoise(albumentations.ImageOnlyTransform):
    """Poisson(photons * value) / photons for each value in [0, 1], clipped to 1.

    The library's ShotNoise counts photons in linear light, which darkens the picture.
    Hendrycks and Dietterich: Benchmarking neural network robustness, ICLR 2019.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        photons: float

    def __init__(self, photons: float = 60.0, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.photons = photons

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Count the photons."""
        return {"counted": self.random_generator.poisson(data["image"] / 255 * self.photons)}

    def apply(self, img: NDArray[np.uint8], counted: NDArray[np.int64], **params: Any) -> NDArray[np.uint8]:
        """Photons to values."""
        return np.rint(np.clip(counted / self.photons, 0, 1) * 255).astype(np.uint8)
