"""Pictures and numbers of the explanations for TensorBoard."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from seewhy.classifier import Classifier
from seewhy.types import Batch


class TensorBoard(Callback):
    """Logs each image's numbers with the image's place in the run as step, their means, the sheet and the config.

    Pictures are those that the callback `figures` wrote: at most `maximum` panels.
    """

    def __init__(self, folder: str, maximum: int = 16) -> None:
        self.folder = Path(folder)
        self.maximum = maximum
        self.names: list[str] = []
        self.values: dict[str, list[float]] = {}

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *place: int
    ) -> None:
        """Log the numbers of one batch."""
        for made in outputs.get("explanations", []):
            for metric, value in {**made.facts, **made.metrics}.items():
                self._write(trainer, "add_scalar", f"per_image/{metric}", value, len(self.names))
                self.values.setdefault(metric, []).append(value)
            self.names.append(made.name)

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Log means and pictures."""
        for metric, values in self.values.items():
            self._write(trainer, "add_scalar", f"mean/{metric}", float(np.mean(values)), 0)
        self._picture(trainer, "sheet", self.folder / "sheet.png")
        for name in self.names[: self.maximum]:
            self._picture(trainer, f"explanation/{name}", self.folder / "figures" / f"{name}.png")
        config = self.folder / ".hydra" / "config.yaml"
        if config.is_file():
            self._write(trainer, "add_text", "config", f"```yaml\n{config.read_text()}\n```", 0)

    def _picture(self, trainer: Trainer, tag: str, path: Path) -> None:
        if path.is_file():
            pixels = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))
            self._write(trainer, "add_image", tag, pixels, 0, dataformats="HWC")

    def _write(self, trainer: Trainer, method: str, *values: Any, **options: Any) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                getattr(logger.experiment, method)(*values, **options)
