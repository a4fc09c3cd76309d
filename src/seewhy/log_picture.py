"""A picture for TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Iterable

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image


def log_picture(loggers: Iterable[Logger], tag: str, png: bytes, step: int = 0) -> None:
    """Add a PNG file as it is to every TensorBoard logger, at the training step of the network that it shows."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    width, height = Image.open(io.BytesIO(png)).size
    image = Summary.Image(height=height, width=width, colorspace=len("RGBA"), encoded_image_string=png)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.file_writer.add_summary(summary, step)
