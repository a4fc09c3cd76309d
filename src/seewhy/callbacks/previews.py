"""Keep each explained image as the network saw it, small."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from seewhy.classifier import Classifier
from seewhy.explanation import Explanation
from seewhy.figure_writer import FigureWriter
from seewhy.preview import preview
from seewhy.run_folder import RunFolder
from seewhy.types import Batch


class Previews(Callback):
    """Writes images/<image>.webp for report.html, beside the loop; comes after the callback `attribution`.

    The page needs the image after resize and crop, also where the file is gone or there never was one.
    """

    def __init__(self, folder: str) -> None:
        self.folder = RunFolder(Path(folder))
        self.writer = FigureWriter(self.folder)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *place: int
    ) -> None:
        """Write the explained images of one batch."""
        for made in outputs.get("explanations", []):
            outputs.setdefault("pending", []).append(self.writer.run(partial(self._write, made)))

    def _write(self, made: Explanation) -> Path:
        return self.folder.write_bytes(f"images/{made.name}.webp", preview(made.image))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Wait for the pictures, before the page is made of them."""
        self.writer.finish()

    def on_exception(self, trainer: Trainer, pl_module: Classifier, exception: BaseException) -> None:  # type: ignore[override]
        """Keep what was explained before the error."""
        with suppress(Exception):
            self.writer.finish()
