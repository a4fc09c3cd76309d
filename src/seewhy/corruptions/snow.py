"""Snow as in ImageNet-C: whitened colours under flakes that fall in one direction."""

from __future__ import annotations

from typing import Any

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray


class Snow(albumentations.ImageOnlyTransform):
    """keep * x + (1 - keep) * max(x, 1.5 * grey + 0.5) + flakes + flakes turned by 180 degrees, in [0, 1].

    Flakes: normal noise (`mean`, `spread`), enlarged `zoom` times, zero below `threshold`, smeared along a line with a
    Gaussian of `length` pixels at an angle from 45 to 135 degrees. The library's RandomSnow adds its flakes to the hue.
    Hendrycks and Dietterich: Benchmarking neural network robustness, ICLR 2019.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        mean: float
        spread: float
        zoom: float
        threshold: float
        length: float
        keep: float

    def __init__(
        self,
        mean: float = 0.1,
        spread: float = 0.3,
        zoom: float = 3.0,
        threshold: float = 0.5,
        length: float = 4.0,
        keep: float = 0.8,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.mean, self.spread, self.zoom = mean, spread, zoom
        self.threshold, self.length, self.keep = threshold, length, keep

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the flakes and their direction."""
        height, width = params["shape"][:2]
        noise = self.random_generator.standard_normal((height, width), dtype=np.float32)
        angle = np.radians(self.random_generator.uniform(45, 135))
        rows, columns = max(1, int(np.ceil(height / self.zoom))), max(1, int(np.ceil(width / self.zoom)))
        flakes = cv2.resize(self.mean + self.spread * noise[:rows, :columns], (width, height))
        flakes = np.where(flakes < self.threshold, 0, np.clip(flakes, 0, 1)).astype(np.float32)
        return {"flakes": cv2.filter2D(flakes, -1, streak(self.length, float(angle)), borderType=cv2.BORDER_REFLECT)}

    def apply(self, img: NDArray[np.uint8], flakes: NDArray[np.float32], **params: Any) -> NDArray[np.uint8]:
        """Whiten the picture and let it snow."""
        picture = img.astype(np.float32) / 255
        grey = picture @ np.array([0.299, 0.587, 0.114], np.float32)
        whitened = self.keep * picture + (1 - self.keep) * np.maximum(picture, 1.5 * grey[..., None] + 0.5)
        snowy = whitened + (flakes + flakes[::-1, ::-1])[..., None]
        return np.rint(np.clip(snowy, 0, 1) * 255).astype(np.uint8)


def streak(length: float, angle: float) -> NDArray[np.float32]:
    """A kernel whose weights are a Gaussian of `length` along one direction, starting at the centre; they add to 1."""
    reach = int(np.ceil(2 * length))
    steps = np.arange(0, reach + 1e-6, 0.5)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    rows = np.rint(reach + steps * np.sin(angle)).astype(int)
    columns = np.rint(reach + steps * np.cos(angle)).astype(int)
    np.add.at(kernel, (rows, columns), np.exp(-((steps / length) ** 2) / 2))
    return kernel / kernel.sum()
