"""How an image is described by the numbers that are optimised: by its pixels or by its spectrum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.core.facts import IMAGENET_MEAN, IMAGENET_STD
from seewhy.core.types import Images

COLOURS = ((0.566, 0.218, 0.058), (0.583, -0.006, -0.121), (0.582, -0.206, 0.065))
"""R, G and B of three uncorrelated directions: brightness, orange to blue, magenta to green.

Columns are the eigenvectors of the covariance of RGB in ImageNet photographs, each as long as its standard deviation,
the longest 1.
"""


class Canvas(ABC):
    """Parameters of one image each, and the images that they stand for."""

    @abstractmethod
    def start(self, generator: torch.Generator) -> Tensor:
        """The parameters of one image before the first step."""

    @abstractmethod
    def images(self, parameters: Tensor) -> Images:
        """Parameters [batch, ...] -> images [batch, 3, size, size], differentiable."""


@dataclass(frozen=True)
class Pixels(Canvas):
    """Normalised pixels: image = IMAGENET_STD * parameters + IMAGENET_MEAN, from parameters ~ N(0, 1).

    The units are those of ImageNet whatever the normalisation of the network, so that a step is as long for every one.
    """

    size: int

    def start(self, generator: torch.Generator) -> Tensor:
        """Normal noise [3, size, size]."""
        return torch.randn(3, self.size, self.size, generator=generator)

    def images(self, parameters: Tensor) -> Images:
        """In [0, 1] once the parameters are clamped."""
        mean, std = mean_and_std(parameters)
        return parameters * std + mean

    def clamped(self, parameters: Tensor) -> Tensor:
        """The nearest parameters whose image is in [0, 1]."""
        return normalised(self.images(parameters).clamp(0, 1))


def normalised(images: Images) -> Tensor:
    """(images - IMAGENET_MEAN) / IMAGENET_STD."""
    mean, std = mean_and_std(images)
    return (images - mean) / std


def mean_and_std(like: Tensor) -> tuple[Tensor, Tensor]:
    """ImageNet's channel means and standard deviations, [3, 1, 1] each, on the device of a tensor."""
    mean, std = torch.tensor([IMAGENET_MEAN, IMAGENET_STD], device=like.device)[:, :, None, None]
    return mean, std


@dataclass(frozen=True)
class Fourier(Canvas):
    """image = sigmoid(COLOURS z), z = inverse FFT(parameters / frequency^decay), within bounds on contrast and colour.

    Low frequencies and brightness move as easily as they vary in photographs, so that gradients do not end in fine
    coloured noise (Olah et al., Feature Visualization, 2017). Where the spread of the two colour directions exceeds
    `saturation` times that of brightness (1: as in photographs), or the spread of COLOURS z exceeds `contrast`, it is
    scaled down to that.
    """

    size: int
    decay: float
    contrast: float
    saturation: float

    def start(self, generator: torch.Generator) -> Tensor:
        """A faint spectrum [3, size, size // 2 + 1, 2], real and imaginary parts ~ N(0, 0.01^2)."""
        return 0.01 * torch.randn(3, self.size, self.size // 2 + 1, 2, generator=generator)

    def images(self, parameters: Tensor) -> Images:
        """In (0, 1) whatever the parameters."""
        device = parameters.device
        rows, columns = torch.fft.fftfreq(self.size, device=device), torch.fft.rfftfreq(self.size, device=device)
        frequency = torch.hypot(rows[:, None], columns[None]).clamp_min(1 / self.size)
        spectrum = torch.view_as_complex(parameters) / frequency**self.decay
        values = torch.fft.irfft2(spectrum, s=(self.size, self.size), norm="ortho")
        brightness, colours = values[:, :1], values[:, 1:]
        colours = _bounded(colours, self.saturation * brightness.flatten(1).std(1))
        directions = torch.tensor(COLOURS, device=device)
        coloured = torch.einsum("cd,bdhw->bchw", directions, torch.cat([brightness, colours], 1))
        return torch.sigmoid(_bounded(coloured, self.contrast))


def _bounded(values: Tensor, bound: Tensor | float) -> Tensor:
    """Each of [batch, ...] scaled down to the standard deviation `bound` where its own is larger."""
    share = (bound / values.flatten(1).std(1).clamp_min(1e-12)).clamp_max(1)
    return values * share[:, None, None, None]
