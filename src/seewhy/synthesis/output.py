"""Where the results of a synthesis go: the run's folder and, the same again, TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image

from seewhy.run_folder import RunFolder


class Output:
    """Files below one folder; pictures and numbers also to the loggers that are TensorBoard's."""

    def __init__(self, folder: Path, loggers: Iterable[Logger] = ()) -> None:
        self.folder = RunFolder(folder)
        self.writers = [logger.experiment for logger in loggers if isinstance(logger, TensorBoardLogger)]

    def file(self, name: str, content: bytes) -> None:
        """A file of any kind."""
        self.folder.write_bytes(name, content)

    def figure(self, name: str, content: bytes) -> None:
        """A PNG file, shown in TensorBoard under its name without the suffix."""
        self.file(name, content)
        if self.writers:
            pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            for writer in self.writers:
                writer.add_image(name.removesuffix(".png"), pixels, 0, dataformats="HWC")

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """A CSV file."""
        self.folder.write_csv(name, columns, rows)

    def number(self, name: str, value: float, step: int) -> None:
        """One point of a curve in TensorBoard."""
        for writer in self.writers:
            writer.add_scalar(name, value, step)

    def finish(self) -> None:
        """Add the run's config to TensorBoard and write out what is pending."""
        config = self.folder.path / ".hydra" / "config.yaml"
        for writer in self.writers:
            if config.is_file():
                writer.add_text("config", f"```yaml\n{config.read_text()}\n```", 0)
            writer.flush()
