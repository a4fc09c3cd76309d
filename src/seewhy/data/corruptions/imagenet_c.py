"""Random clouds: noise that is strong at large scales and weak at small ones.

Fog as in ImageNet-C: a bright cloud over the picture, which pales.
Frost-like: bright ice crystals over a darkened picture, drawn instead of photographed.
Snow as in ImageNet-C: whitened colours under flakes that fall in one direction.
"""

from __future__ import annotations

from typing import Any

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray


def draw_cloud(height: int, width: int, decay: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """float32 [height, width] from 0 to 1 with structures of all sizes, each octave `decay` times weaker than the last.

    White noise is filtered with the amplitude f^-(1 + log2 decay), which is the spectrum of the diamond-square
    algorithm with that decay. Constant pictures of one pixel give 0.
    """
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(generator.standard_normal((height, width))) * frequency ** -(1 + np.log2(decay))
    heights = np.fft.irfft2(spectrum, s=(height, width))
    spread = np.ptp(heights)
    return np.zeros((height, width), np.float32) if spread == 0 else ((heights - heights.min()) / spread).astype("f4")


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
        return {"veil": draw_cloud(height, width, self.decay, self.random_generator)}

    def apply(self, img: NDArray[np.uint8], veil: NDArray[np.float32], **params: Any) -> NDArray[np.uint8]:
        """Veil the picture."""
        picture = img.astype(np.float32) / 255
        largest = float(picture.max())
        veiled = (picture + self.density * veil[..., None]) * largest / (largest + self.density)
        return np.rint(np.clip(veiled, 0, 1) * 255).astype(np.uint8)


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
        ridges = 1 - np.abs(2 * draw_cloud(height, width, 1.5, draw) - 1)
        needles = draw.random((height, width), dtype=np.float32) ** 24
        streaked = [cv2.filter2D(needles, -1, line / 2, borderType=cv2.BORDER_REFLECT) for line in LINES]
        where = np.clip(1.5 * draw_cloud(height, width, 3.0, draw) - 0.2, 0, 1)
        return {"crystals": np.clip(where * (ridges**3 + np.maximum(*streaked)), 0, 1).astype(np.float32)}

    def apply(self, img: NDArray[np.uint8], crystals: NDArray[np.float32], **params: Any) -> NDArray[np.uint8]:
        """Freeze the picture."""
        frozen = self.keep * img.astype(np.float32) / 255 + self.ice * crystals[..., None] * ICE
        return np.rint(np.clip(frozen, 0, 1) * 255).astype(np.uint8)


LINES = (np.eye(11, dtype=np.float32), np.eye(11, dtype=np.float32)[::-1].copy())


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
        return {
            "flakes": cv2.filter2D(flakes, -1, build_streak(self.length, float(angle)), borderType=cv2.BORDER_REFLECT)
        }

    def apply(self, img: NDArray[np.uint8], flakes: NDArray[np.float32], **params: Any) -> NDArray[np.uint8]:
        """Whiten the picture and let it snow."""
        picture = img.astype(np.float32) / 255
        grey = picture @ np.array([0.299, 0.587, 0.114], np.float32)
        whitened = self.keep * picture + (1 - self.keep) * np.maximum(picture, 1.5 * grey[..., None] + 0.5)
        snowy = whitened + (flakes + flakes[::-1, ::-1])[..., None]
        return np.rint(np.clip(snowy, 0, 1) * 255).astype(np.uint8)


def build_streak(length: float, angle: float) -> NDArray[np.float32]:
    """A kernel whose weights are a Gaussian of `length` along one direction, starting at the centre; they add to 1."""
    reach = int(np.ceil(2 * length))
    steps = np.arange(0, reach + 1e-6, 0.5)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    rows = np.rint(reach + steps * np.sin(angle)).astype(int)
    columns = np.rint(reach + steps * np.cos(angle)).astype(int)
    np.add.at(kernel, (rows, columns), np.exp(-((steps / length) ** 2) / 2))
    return kernel / kernel.sum()


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
