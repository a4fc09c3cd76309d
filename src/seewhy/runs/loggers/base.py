"""What a run tells its loggers, in the terms of any Lightning logger: numbers alone."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from PIL import Image

Parameters: TypeAlias = Mapping[str, str | float]
"""What was chosen for a run, such as `{"explainer": "saliency", "explainer.n_steps": 50}`."""
Rows: TypeAlias = Sequence[Mapping[str, Any]]
"""The rows of a table; a column that a row lacks is an empty cell."""

PREVIEW_PIXELS = 120_000
"""Of a picture that is logged as a JPEG file: 516 x 232 of a panel of 1680 x 756, some 30 kB."""


class RunLogger:
    """The interface to one Lightning logger; this one serves loggers that have no class of their own here.

    They get scalars, values, curves and the hyperparameters; pictures, tables and texts stay in the run folder.
    Numbers that are NaN or infinite are left out everywhere.

    Args:
        logger: The Lightning logger, on the first process of a run.
    """

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def log_scalars(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers by name.

        Args:
            values: Each number under its name; `/` groups names.
            step: What the numbers belong to, such as a training step or a level.
        """
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        if finite:
            self.logger.log_metrics(finite, step)

    def log_values(self, values: Mapping[str, Sequence[float]], step: int = 0) -> None:
        """Log one number for each image of the run, with the position of the image as step.

        Args:
            values: Under each name one number per image; NaN where an image has none.
            step: Training step of the network, where the values of all images are logged as one distribution.
        """
        for position in range(max(map(len, values.values()), default=0)):
            self.log_scalars(
                {name: column[position] for name, column in values.items() if position < len(column)}, position
            )

    def log_curve(self, name: str, points: Sequence[tuple[int, float]]) -> None:
        """Log a curve, with x as step.

        Args:
            name: Of the curve, such as `curves/deletion/black/probability`.
            points: (x, y) of each point, such as (percentage of the pixels, probability).
        """
        for x, y in points:
            self.log_scalars({name: y}, x)

    def log_image(self, name: str, png: bytes, step: int = 0) -> None:
        """Log a preview of a picture.

        Args:
            name: Of the picture, such as `explanation/cat`.
            png: The whole picture as the bytes of an image file; it lies in the run folder too.
            step: Training step of the network, or the level of a corruption.
        """

    def log_table(self, name: str, columns: Sequence[str], rows: Rows) -> None:
        """Log a table.

        Args:
            name: Of the table, such as `summary`.
            columns: Their names, in order.
            rows: One mapping from column to cell a row.
        """

    def log_text(self, name: str, text: str) -> None:
        """Log a text.

        Args:
            name: Of the text, such as `config`.
            text: As it is in the file.
        """

    def log_run(self, parameters: Parameters, results: Mapping[str, float], step: int = 0) -> None:
        """Log what was chosen for the run and what came out, so that runs can be compared, one a row.

        Args:
            parameters: What was chosen.
            results: Averages over the images, and costs.
            step: Training step of the network.
        """
        self.logger.log_hyperparams(dict(parameters))
        self.log_scalars(results, step)

    def close(self, status: str = "success") -> None:
        """Write out what is pending; nothing is logged afterwards.

        Args:
            status: `success` or `failed`.
        """
        self.logger.finalize(status)


def build_preview(png: bytes, pixels: int = PREVIEW_PIXELS) -> Image.Image:
    """Scale a picture down, by an average over its pixels, to a bounded number of pixels.

    Args:
        png: The bytes of an image file.
        pixels: The most that the preview has; a picture with fewer stays as it is.

    Returns:
        The preview in RGB.
    """
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    zoom = math.sqrt(pixels / (picture.width * picture.height))
    if zoom >= 1:
        return picture
    size = max(1, int(zoom * picture.width)), max(1, int(zoom * picture.height))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def encode_preview(png: bytes) -> bytes:
    """Encode the preview of a picture.

    Args:
        png: The bytes of an image file.

    Returns:
        A JPEG file of some 30 kB.
    """
    content = io.BytesIO()
    build_preview(png).save(content, "JPEG", quality=80)
    return content.getvalue()
