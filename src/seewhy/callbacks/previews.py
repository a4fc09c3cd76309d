"""Keep each explained image as the network saw it, small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from seewhy.classifier import Classifier
from seewhy.preview import preview
from seewhy.run_folder import RunFolder
from seewhy.types import Batch


class Previews(Callback):
    """Writes images/<image>.webp for report.html; comes after the callback `attribution`.

    The page needs the image after resize and crop, also where the file is gone or there never was one.
    """

    def __init__(self, folder: str) -> None:
        self.folder = RunFolder(Path(folder))

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *place: int
    ) -> None:
        """Write the explained images of one batch."""
        for made in outputs.get("explanations", []):
            self.folder.write_bytes(f"images/{made.name}.webp", preview(made.image))
