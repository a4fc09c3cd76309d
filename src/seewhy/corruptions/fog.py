"""Fog as in ImageNet-C: a bright cloud over the picture, which pales."""

from __future__ import annotations

from typing import Any

import albumentations
import numpy as np
from numpy.typing import NDArray

from seewhy.corruptions.cloud import cloud


class Fog(albumentations.ImageOnlyTransform):
    """(picture + density * cloud) * m / (m + density), values in [0, 1], m the largest of the picture.

    `decay` tells how much weaker each octave of the cloud is. The library's RandomFog blurs more than it veils and
    takes up to a second a picture. Hendrycks and Dietterich: Benchmarking neural network robustness, ICLR 2019.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        density: float
        decay: float

    def __init__(self, density: float = 1.5, decay: float = 2.0, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.density = density
        self.decay = decay

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the cloud."""
        height, width = params["shape"][:2]
        return {"veil": cloud(height, width, self.decay, self.random_generator)}

    def apply(self, img: NDArray[np.uint8], veil: NDArray[np.float32], **params: Any) -> NDArray[np.uint8]:
        """Veil the picture."""
        picture = img.astype(np.float32) / 255
        largest = float(picture.max())
        veiled = (picture + self.density * veil[..., None]) * largest / (largest + self.density)
        return np.rint(np.clip(veiled, 0, 1) * 255).astype(np.uint8)
