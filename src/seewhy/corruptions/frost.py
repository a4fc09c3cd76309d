"""Frost-like: bright ice crystals over a darkened picture, drawn instead of photographed."""

from __future__ import annotations

from typing import Any

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray

from seewhy.corruptions.cloud import cloud

ICE = np.array([0.86, 0.94, 1.0], np.float32)


class Frost(albumentations.ImageOnlyTransform):
    """keep * picture + ice * crystals, values in [0, 1].

    ImageNet-C cuts its crystals out of photographs; here they are the ridges of a random cloud with needles in two
    directions, densest where a second, smoother cloud is bright.
    Hendrycks and Dietterich: Benchmarking neural network robustness, ICLR 2019.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        keep: float
        ice: float

    def __init__(self, keep: float = 1.0, ice: float = 0.4, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.keep = keep
        self.ice = ice

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the crystals."""
        height, width = params["shape"][:2]
        draw = self.random_generator
        ridges = 1 - np.abs(2 * cloud(height, width, 1.5, draw) - 1)
        needles = draw.random((height, width), dtype=np.float32) ** 24
        streaked = [cv2.filter2D(needles, -1, line / 2, borderType=cv2.BORDER_REFLECT) for line in LINES]
        where = np.clip(1.5 * cloud(height, width, 3.0, draw) - 0.2, 0, 1)
        return {"crystals": np.clip(where * (ridges**3 + np.maximum(*streaked)), 0, 1).astype(np.float32)}

    def apply(self, img: NDArray[np.uint8], crystals: NDArray[np.float32], **params: Any) -> NDArray[np.uint8]:
        """Freeze the picture."""
        frozen = self.keep * img.astype(np.float32) / 255 + self.ice * crystals[..., None] * ICE
        return np.rint(np.clip(frozen, 0, 1) * 255).astype(np.uint8)


LINES = (np.eye(11, dtype=np.float32), np.eye(11, dtype=np.float32)[::-1].copy())
