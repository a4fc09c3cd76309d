"""Write predictions, numbers and skipped images as CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from seewhy.callbacks.journal_reader import JournalReader
from seewhy.core.files import RunFolder
from seewhy.models.classifier import Classifier
from seewhy.runs.tables import write_tables


class Tables(JournalReader):
    """Writes predictions.csv, metrics.csv (one number per row) and skipped.csv when the loop ends, however it ends.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = RunFolder(Path(folder))

    def write(self, trainer: Trainer, classifier: Classifier) -> None:
        """Write all three tables."""
        write_tables(self.folder, self.recorder.journal)

    def record(self) -> dict[str, Any]:
        """Describe the images for the record of the run.

        Returns:
            How many were read and skipped.
        """
        return self.recorder.totals.describe_images()
