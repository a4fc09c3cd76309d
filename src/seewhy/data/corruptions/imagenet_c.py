"""Corruptions of ImageNet-C that Albumentations lacks or computes otherwise: photon noise, fog, frost and snow.

Hendrycks and Dietterich: Benchmarking neural network robustness to common corruptions and perturbations, ICLR 2019.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray

ICE = np.array([0.86, 0.94, 1.0], np.float32)
"""Colour of ice crystals."""
DIAGONALS = (np.eye(11, dtype=np.float32), np.eye(11, dtype=np.float32)[::-1].copy())
"""Both directions of ice needles."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of the channels in a grey picture."""


class DrawnTransform(albumentations.ImageOnlyTransform):
    """A transform that draws one array of random numbers for a picture and then applies it."""

    @abstractmethod
    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Draw the random numbers for a picture uint8 [height, width, 3]."""

    @abstractmethod
    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """The corrupted picture in [0, 1], not clipped yet."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """What Albumentations hands to `apply`."""
        return {"drawn": self.draw(data["image"])}

    def apply(self, img: NDArray[np.uint8], drawn: NDArray[Any], **params: Any) -> NDArray[np.uint8]:
        """Corrupt the picture."""
        return np.rint(np.clip(self.blend(img, drawn), 0, 1) * 255).astype(np.uint8)


class ShotNoise(DrawnTransform):
    """Poisson(photons * value) / photons for each value in [0, 1], clipped to 1.

    The library's ShotNoise counts photons in linear light, which darkens the picture.

    Args:
        photons: Photons of a white pixel; fewer are noisier.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        photons: float

    def __init__(self, photons: float = 60.0, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.photons = photons

    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Count the photons."""
        return self.random_generator.poisson(picture / 255 * self.photons)

    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """Photons to values."""
        return drawn / self.photons


class Fog(DrawnTransform):
    """(picture + density * cloud) * m / (m + density), values in [0, 1], m the largest of the picture.

    The library's RandomFog blurs more than it veils and takes up to a second a picture.

    Args:
        density: Brightness of the cloud.
        decay: How much weaker each octave of the cloud is.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        density: float
        decay: float

    def __init__(self, density: float = 1.5, decay: float = 2.0, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.density = density
        self.decay = decay

    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Draw the cloud."""
        height, width = picture.shape[:2]
        return draw_cloud(height, width, self.decay, self.random_generator)

    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """Veil the picture."""
        values = picture.astype(np.float32) / 255
        largest = float(values.max())
        return (values + self.density * drawn[..., None]) * largest / (largest + self.density)


class Frost(DrawnTransform):
    """keep * picture + ice * crystals, values in [0, 1].

    ImageNet-C cuts its crystals out of photographs; here they are the ridges of a random cloud with needles in two
    directions, densest where a second, smoother cloud is bright.

    Args:
        keep: Weight of the picture.
        ice: Weight of the crystals.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        keep: float
        ice: float

    def __init__(self, keep: float = 1.0, ice: float = 0.4, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.keep = keep
        self.ice = ice

    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Draw the crystals."""
        height, width = picture.shape[:2]
        generator = self.random_generator
        ridges = 1 - np.abs(2 * draw_cloud(height, width, 1.5, generator) - 1)
        needles = generator.random((height, width), dtype=np.float32) ** 24
        streaked = [cv2.filter2D(needles, -1, line / 2, borderType=cv2.BORDER_REFLECT) for line in DIAGONALS]
        where = np.clip(1.5 * draw_cloud(height, width, 3.0, generator) - 0.2, 0, 1)
        return np.clip(where * (ridges**3 + np.maximum(*streaked)), 0, 1).astype(np.float32)

    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """Freeze the picture."""
        return self.keep * picture.astype(np.float32) / 255 + self.ice * drawn[..., None] * ICE


class Snow(DrawnTransform):
    """keep * x + (1 - keep) * max(x, 1.5 * grey + 0.5) + flakes + flakes turned by 180 degrees, in [0, 1].

    The library's RandomSnow adds its flakes to the hue.

    Args:
        mean: Mean of the normal noise that the flakes are made of.
        spread: Its standard deviation.
        zoom: How many times it is enlarged.
        threshold: Noise below it is no flake.
        length: Pixels along which a flake is smeared, with a Gaussian, at an angle from 45 to 135 degrees.
        keep: Weight of the colours; the rest is whitened.
        p: Probability; a `Corruption` sets it to 1.
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

    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Draw the flakes and their direction."""
        height, width = picture.shape[:2]
        noise = self.random_generator.standard_normal((height, width), dtype=np.float32)
        angle = np.radians(self.random_generator.uniform(45, 135))
        rows, columns = max(1, int(np.ceil(height / self.zoom))), max(1, int(np.ceil(width / self.zoom)))
        flakes = cv2.resize(self.mean + self.spread * noise[:rows, :columns], (width, height))
        flakes = np.where(flakes < self.threshold, 0, np.clip(flakes, 0, 1)).astype(np.float32)
        return cv2.filter2D(flakes, -1, build_streak(self.length, float(angle)), borderType=cv2.BORDER_REFLECT)

    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """Whiten the picture and let it snow."""
        values = picture.astype(np.float32) / 255
        grey = values @ GREY
        whitened = self.keep * values + (1 - self.keep) * np.maximum(values, 1.5 * grey[..., None] + 0.5)
        return whitened + (drawn + drawn[::-1, ::-1])[..., None]


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


def build_streak(length: float, angle: float) -> NDArray[np.float32]:
    """A kernel whose weights are a Gaussian of `length` along one direction, starting at the centre; they add to 1."""
    reach = int(np.ceil(2 * length))
    steps = np.arange(0, reach + 1e-6, 0.5)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    rows = np.rint(reach + steps * np.sin(angle)).astype(int)
    columns = np.rint(reach + steps * np.cos(angle)).astype(int)
    np.add.at(kernel, (rows, columns), np.exp(-((steps / length) ** 2) / 2))
    return kernel / kernel.sum()
