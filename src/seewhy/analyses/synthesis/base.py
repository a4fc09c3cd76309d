"""What every synthesis is: parameters that make images with a classifier, and where the results go."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from seewhy.core.files import RunFolder
from seewhy.core.types import Images
from seewhy.data.preprocessing import to_unit_range
from seewhy.models.classifier import Classifier
from seewhy.runs.loggers.group import LoggerGroup

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """A frozen set of parameters; the classifier, its modes and all random states stay as they were.

    `probe_batch_size` bounds how many images are in the network at once (`auto`: the fastest size).
    """

    seed: int = 0
    probe_batch_size: int | str = "auto"

    @property
    def name(self) -> str:
        """The synthesis in snake case, as in its yaml."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

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
    """An image [3, height, width], uint8 or float32 in [0, 1], as a PIL picture."""
    pixels = image if image.dtype == torch.uint8 else to_bytes(image)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def encode_png(image: Tensor) -> bytes:
    """The image [3, height, width] as PNG bytes, one pixel of the file for each pixel."""
    content = io.BytesIO()
    to_picture(image).save(content, format="PNG")
    return content.getvalue()


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
