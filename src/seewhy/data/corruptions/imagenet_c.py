"""Corruptions of ImageNet-C that Albumentations lacks or computes otherwise: noise, weather and blur.

The formulas and constants are those of the code that made ImageNet-C; values are rounded to the nearest of 256, where that
code cuts the fraction off. `imagenet_c_digital` holds contrast, pixelation and JPEG.

Hendrycks and Dietterich: Benchmarking neural network robustness to common corruptions and perturbations, ICLR 2019.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any

import albumentations
import cv2
import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from seewhy.core.errors import UserError
from seewhy.core.settings import NonNegative, Positive, Radius, UnitInterval, check_when_made
from seewhy.data.corruptions.patterns import draw_cloud, draw_plasma, enlarge, smear, swap_sides

ICE = np.array([0.86, 0.94, 1.0], np.float32)
"""Colour of ice crystals."""
DIAGONALS = (np.eye(11, dtype=np.float32), np.eye(11, dtype=np.float32)[::-1].copy())
"""Both directions of ice needles."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of the channels in a grey picture."""


def check_colours(transform: albumentations.BasicTransform, picture: NDArray[np.uint8]) -> None:
    """Check that a picture is one for the eye.

    Args:
        transform: What is only defined for such pictures.
        picture: uint8 [height, width, channels].

    Raises:
        UserError: It is neither grey nor RGB.
    """
    if picture.shape[2] not in (1, 3):
        raise UserError(f"{type(transform).__name__} has a meaning for grey and for RGB alone")


class DrawnTransform(albumentations.ImageOnlyTransform):
    """A transform that draws one array of random numbers for a picture and then applies it."""

    @abstractmethod
    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Draw the random numbers for a picture uint8 [height, width, channels]."""

    @abstractmethod
    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """The corrupted picture in [0, 1], not clipped yet."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """What Albumentations hands to `apply`."""
        return {"drawn": self.draw(data["image"])}

    def apply(self, img: NDArray[np.uint8], drawn: NDArray[Any], **params: Any) -> NDArray[np.uint8]:
        """Corrupt the picture."""
        return np.rint(np.clip(self.blend(img, drawn), 0, 1) * 255).astype(np.uint8)


@check_when_made("corruption.{}")
class GaussianNoise(DrawnTransform):
    """Value + d z with z from the standard normal distribution, for each value in [0, 1], clipped.

    The library's GaussNoise cuts off the fractions of the noise, which weakens 0.04 by 4 %.

    Args:
        lowest: The standard deviation d is drawn for each picture, uniformly from here ...
        highest: ... to here.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        lowest: float
        highest: float

    def __init__(self, lowest: NonNegative = 0.08, highest: NonNegative = 0.08, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.lowest, self.highest = lowest, highest

    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Draw the deviation and the noise."""
        deviation = np.float32(self.random_generator.uniform(self.lowest, self.highest))
        return deviation * self.random_generator.standard_normal(picture.shape, dtype=np.float32)

    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """Add the noise."""
        return picture.astype(np.float32) / 255 + drawn


@check_when_made("corruption.{}")
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

    def __init__(self, photons: Positive = 60.0, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.photons = photons

    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Count the photons."""
        return self.random_generator.poisson(picture / 255 * self.photons)

    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """Photons to values."""
        return drawn / self.photons


@check_when_made("corruption.{}")
class ImpulseNoise(DrawnTransform):
    """Each value of each channel turns 0 or 1, with equal chance, with probability `amount`.

    The library's SaltAndPepper turns whole pixels black or white.

    Args:
        amount: Expected share of the values that change.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        amount: float

    def __init__(self, amount: UnitInterval = 0.03, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.amount = amount

    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Draw which values change, and to what."""
        return self.random_generator.random((2, *picture.shape), dtype=np.float32)

    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """Salt and pepper the channels."""
        return np.where(drawn[0] < self.amount, drawn[1] < 0.5, picture.astype(np.float32) / 255)


@check_when_made("corruption.{}")
class MotionBlur(DrawnTransform):
    """Each pixel becomes a one-sided Gaussian mean along a line, at an angle from -45 to 45 degrees.

    The library's MotionBlur averages with equal weights along a line centred on the pixel.

    Args:
        radius: The line has 2 radius + 1 pixels.
        sigma: Standard deviation of the Gaussian in pixels.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        radius: int
        sigma: float

    def __init__(self, radius: Radius = 10, sigma: Positive = 3.0, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.radius, self.sigma = radius, sigma

    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Draw the angle."""
        return np.radians(self.random_generator.uniform(-45, 45, 1))

    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """Smear the picture."""
        return smear((picture / 255).astype(np.float32), self.radius, self.sigma, float(drawn[0]))


@check_when_made("corruption.{}")
class ZoomBlur(albumentations.ImageOnlyTransform):
    """The mean of the picture and of its enlargements by 1, 1 + step, 1 + 2 step, ... below `largest`.

    An enlargement by z interpolates linearly from the middle ceil(side / z) pixels of a side, whose outer pixels stay the
    outer ones, to round(z * ceil(side / z)) pixels, of which the middle ones are kept. The library's ZoomBlur interpolates
    otherwise, which halves the change of a thumbnail.

    Args:
        largest: No enlargement reaches it.
        step: Between two enlargements.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        largest: float
        step: float

    def __init__(
        self,
        largest: Annotated[float, Ge(1), Le(10)] = 1.11,
        step: Annotated[float, Ge(0.001), Le(1)] = 0.01,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.largest, self.step = largest, step

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[np.uint8]:
        """Blur the picture.

        Args:
            img: uint8 [height, width, channels].
            params: Of Albumentations, which are not needed.

        Returns:
            The same shape.
        """
        values = np.ascontiguousarray(img, np.float32)
        factors = np.arange(1, self.largest, self.step)
        turned = swap_sides(values)  # [width, height, channels]: rows are faster to interpolate
        for factor in factors:
            turned += enlarge(swap_sides(enlarge(values, factor)), factor)
        return np.rint(swap_sides(turned) / (1 + len(factors))).astype(np.uint8)


@check_when_made("corruption.{}")
class Fog(DrawnTransform):
    """(picture + density * plasma) * m / (m + density), values in [0, 1], m the largest of the picture.

    The library's RandomFog blurs more than it veils and takes up to a second a picture.

    Args:
        density: Brightness of the fog.
        decay: Of `draw_plasma`: larger values make the fog smoother.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        density: float
        decay: float

    def __init__(
        self, density: NonNegative = 1.5, decay: Annotated[float, Ge(1), Le(10)] = 2.0, p: float = 1.0
    ) -> None:
        super().__init__(p=p)
        self.density = density
        self.decay = decay

    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Draw the fog."""
        height, width = picture.shape[:2]
        return draw_plasma(height, width, self.decay, self.random_generator)

    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """Veil the picture."""
        values = picture.astype(np.float32) / 255
        largest = float(values.max())
        return (values + self.density * drawn[..., None]) * largest / (largest + self.density)


@check_when_made("corruption.{}")
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

    def __init__(self, keep: UnitInterval = 1.0, ice: UnitInterval = 0.4, p: float = 1.0) -> None:
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
        """Freeze the picture; the ice of a grey one has its luminance."""
        check_colours(self, picture)
        ice = ICE if picture.shape[2] == 3 else ICE @ GREY
        return self.keep * picture.astype(np.float32) / 255 + self.ice * drawn[..., None] * ice


@check_when_made("corruption.{}")
class Snow(DrawnTransform):
    """keep * x + (1 - keep) * max(x, 1.5 * grey + 0.5) + flakes + flakes turned by 180 degrees, in [0, 1].

    The library's RandomSnow adds its flakes to the hue.

    Args:
        mean: Mean of the normal noise that the flakes are made of.
        spread: Its standard deviation.
        zoom: How many times it is enlarged.
        threshold: Noise below it is no flake.
        radius: A flake is smeared along 2 radius + 1 pixels, at an angle from -135 to -45 degrees.
        sigma: Standard deviation of that Gaussian in pixels.
        keep: Weight of the colours; the rest is whitened.
        p: Probability; a `Corruption` sets it to 1.
    """

    class InitSchema(albumentations.ImageOnlyTransform.InitSchema):
        """The fields of the yaml."""

        mean: float
        spread: float
        zoom: float
        threshold: float
        radius: int
        sigma: float
        keep: float

    def __init__(
        self,
        mean: float = 0.1,
        spread: NonNegative = 0.3,
        zoom: Annotated[float, Ge(1), Le(100)] = 3.0,
        threshold: float = 0.5,
        radius: Radius = 10,
        sigma: Positive = 4.0,
        keep: UnitInterval = 0.8,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.mean, self.spread, self.zoom = mean, spread, zoom
        self.threshold, self.radius, self.sigma, self.keep = threshold, radius, sigma, keep

    def draw(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Draw the flakes and their direction."""
        height, width = picture.shape[:2]
        noise = self.random_generator.standard_normal((height, width), dtype=np.float32)
        angle = np.radians(self.random_generator.uniform(-135, -45))
        rows, columns = max(1, int(np.ceil(height / self.zoom))), max(1, int(np.ceil(width / self.zoom)))
        flakes = cv2.resize(self.mean + self.spread * noise[:rows, :columns], (width, height))
        flakes = np.where(flakes < self.threshold, 0, np.clip(flakes, 0, 1)).astype(np.float32)
        return smear(flakes, self.radius, self.sigma, float(angle))

    def blend(self, picture: NDArray[np.uint8], drawn: NDArray[Any]) -> NDArray[Any]:
        """Whiten the picture and let it snow."""
        check_colours(self, picture)
        values = picture.astype(np.float32) / 255
        grey = values @ GREY if picture.shape[2] == 3 else values[..., 0]
        whitened = self.keep * values + (1 - self.keep) * np.maximum(values, 1.5 * grey[..., None] + 0.5)
        return whitened + (drawn + drawn[::-1, ::-1])[..., None]
