"""Predictions, numbers and skipped images as CSV files.

What a person reads while a run works.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from seewhy.callbacks.journal_reader import JournalReader
from seewhy.core.files import RunFolder
from seewhy.models.classifier import Classifier
from seewhy.runs.tables import write_tables


class Tables(JournalReader):
    """Writes predictions.csv, metrics.csv (one number per row) and skipped.csv when the loop ends, however it ends."""

    def __init__(self, folder: str) -> None:
        self.folder = RunFolder(Path(folder))

    def write(self, trainer: Trainer, classifier: Classifier) -> None:
        """All three tables."""
        write_tables(self.folder, self.kept.journal)

    def record(self) -> dict[str, Any]:
        """What the run's record says of the images."""
        return self.kept.totals().image_record()
