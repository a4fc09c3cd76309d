"""What every synthesis is: parameters that make images, optimised with a classifier, by pixels or by spectrum."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from seewhy.core.facts import IMAGENET_MEAN, IMAGENET_STD
from seewhy.core.files import RunFolder
from seewhy.core.settings import ProbeBatchSize, Seed, check_fields
from seewhy.core.types import Images
from seewhy.core.words import write_snake_case
from seewhy.data.loading import to_unit_range
from seewhy.models.classifier import Classifier
from seewhy.runs.loggers.backends import LoggerGroup

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """A frozen set of parameters; the classifier, its modes and all random states stay as they were.

    `probe_batch_size` bounds how many images are in the network at once (`auto`: the fastest size).
    """

    seed: Seed = 0
    probe_batch_size: ProbeBatchSize = "auto"

    def __post_init__(self) -> None:
        check_fields(self, "synthesis")

    @property
    def name(self) -> str:
        """The synthesis in snake case, as in its yaml."""
        return write_snake_case(type(self).__name__)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that decide the images."""
        return {key: value for key, value in vars(self).items() if key != "probe_batch_size" and value is not None}


@contextmanager
def isolate(classifier: Classifier) -> Iterator[None]:
    """Outside inference mode, without gradients, with a frozen classifier."""
    with torch.inference_mode(False), torch.no_grad(), classifier.frozen():
        yield


def to_bytes(images: Images) -> Tensor:
    """float32 [...] in [0, 1] -> uint8 [...], the nearest of the 256 levels."""
    return (images.detach() * 255).round().clamp(0, 255).to(torch.uint8)


def round_to_bytes(images: Images) -> Images:
    """The images as they are after saving and reading: float32 in [0, 1], off by at most 0.5 / 255."""
    return to_unit_range(to_bytes(images))


def to_picture(image: Tensor) -> Image.Image:
    """An image of one to four channels [channels, height, width], uint8 or float32 in [0, 1], as a PIL picture.

    Two channels are grey, four are colours, with transparency.
    """
    pixels = image if image.dtype == torch.uint8 else to_bytes(image)
    values = pixels.permute(1, 2, 0).contiguous().cpu().numpy()
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


def encode_image(image: Tensor) -> tuple[str, bytes]:
    """Encode an image without loss, so that it reads back as it is.

    Args:
        image: [channels, height, width], uint8 or float32 in [0, 1].

    Returns:
        The suffix of the file and its bytes: .png of up to four channels, .npy of more.
    """
    content = io.BytesIO()
    if len(image) <= 4:
        to_picture(image).save(content, format="PNG")
        return ".png", content.getvalue()
    pixels = image if image.dtype == torch.uint8 else to_bytes(image)
    np.save(content, pixels.contiguous().cpu().numpy(), allow_pickle=False)
    return ".npy", content.getvalue()


class Output:
    """Files below one folder; pictures, numbers and tables also to the loggers.

    Args:
        folder: The run folder.
        loggers: Of the run; None: none.
    """

    def __init__(self, folder: Path, loggers: LoggerGroup | None = None) -> None:
        self.folder = RunFolder(folder)
        self.loggers = loggers or LoggerGroup()

    def file(self, name: str, content: bytes) -> None:
        """Write a file of any kind.

        Args:
            name: Below the run folder.
            content: Of the file.
        """
        self.folder.write_bytes(name, content)

    def figure(self, name: str, content: bytes) -> None:
        """Write a PNG file, and log it under its name without the suffix.

        Args:
            name: Below the run folder.
            content: Of the file.
        """
        self.file(name, content)
        self.loggers.log_image(name.removesuffix(".png"), content)

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a CSV file, and log its first rows under its name without the suffix.

        Args:
            name: Below the run folder.
            columns: Of the table.
            rows: A mapping for each row.
        """
        self.folder.write_csv(name, columns, rows)
        self.loggers.log_files(self.folder.path, (name.removesuffix(".csv"),))

    def number(self, name: str, value: float, step: int) -> None:
        """Log one point of a curve.

        Args:
            name: Of the curve.
            value: At this step.
            step: Position along the curve.
        """
        self.loggers.log_scalars({name: value}, step)


def build_progress_bar(console: Console) -> Progress:
    """Build a bar with what is done, how much of it, the time spent and the time left."""
    words = TextColumn("{task.description}")
    return Progress(
        words, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=console
    )


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
        """Parameters [batch, ...] -> images [batch, channels, height, width], differentiable."""


@dataclass(frozen=True)
class Pixels(Canvas):
    """Normalised pixels: image = IMAGENET_STD * parameters + IMAGENET_MEAN, from parameters ~ N(0, 1).

    The units are those of ImageNet whatever the normalisation of the network, so that a step is as long for every one.
    Of other channels than red, green and blue each has the means of ImageNet's three.
    """

    shape: tuple[int, int, int]
    """(channels, height, width)."""

    def start(self, generator: torch.Generator) -> Tensor:
        """Normal noise [channels, height, width]."""
        return torch.randn(self.shape, generator=generator)

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
    """ImageNet's means and standard deviations, [channels, 1, 1] each, of the channels of images [..., channels, h, w]."""
    values, channels = torch.tensor([IMAGENET_MEAN, IMAGENET_STD], device=like.device), like.shape[-3]
    if channels != values.shape[1]:
        values = values.mean(1, keepdim=True).expand(-1, channels)
    mean, std = values[:, :, None, None]
    return mean, std


@dataclass(frozen=True)
class Fourier(Canvas):
    """image = sigmoid(COLOURS z), z = inverse FFT(parameters / frequency^decay), within bounds on contrast and colour.

    Low frequencies and brightness move as easily as they vary in photographs, so that gradients do not end in fine
    coloured noise (Olah et al., Feature Visualization, 2017). Where the spread of the two colour directions exceeds
    `saturation` times that of brightness (1: as in photographs), or the spread of COLOURS z exceeds `contrast`, it is
    scaled down to that. Of other channels than red, green and blue nothing is known of how they vary together: each is
    free, and `saturation` has no meaning.
    """

    shape: tuple[int, int, int]
    """(channels, height, width)."""
    decay: float
    contrast: float
    saturation: float

    def start(self, generator: torch.Generator) -> Tensor:
        """A faint spectrum [channels, height, width // 2 + 1, 2], real and imaginary parts ~ N(0, 0.01^2)."""
        channels, height, width = self.shape
        return 0.01 * torch.randn(channels, height, width // 2 + 1, 2, generator=generator)

    def images(self, parameters: Tensor) -> Images:
        """In (0, 1) whatever the parameters."""
        device, (channels, height, width) = parameters.device, self.shape
        rows, columns = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)
        frequency = torch.hypot(rows[:, None], columns[None]).clamp_min(1 / max(height, width))
        spectrum = torch.view_as_complex(parameters) / frequency**self.decay
        values = torch.fft.irfft2(spectrum, s=(height, width), norm="ortho")
        if channels != 3:
            return torch.sigmoid(_bounded(values, self.contrast))
        brightness, colours = values[:, :1], values[:, 1:]
        colours = _bounded(colours, self.saturation * brightness.flatten(1).std(1))
        directions = torch.tensor(COLOURS, device=device)
        coloured = torch.einsum("cd,bdhw->bchw", directions, torch.cat([brightness, colours], 1))
        return torch.sigmoid(_bounded(coloured, self.contrast))


def _bounded(values: Tensor, bound: Tensor | float) -> Tensor:
    """Each of [batch, ...] scaled down to the standard deviation `bound` where its own is larger."""
    share = (bound / values.flatten(1).std(1).clamp_min(1e-12)).clamp_max(1)
    return values * share[:, None, None, None]
