"""A picture for TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image


def log_picture(loggers: Iterable[Logger], tag: str, png: bytes, step: int = 0) -> None:
    """Add the picture to every TensorBoard logger, at the training step of the network that it shows."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, pixels, step, dataformats="HWC")
