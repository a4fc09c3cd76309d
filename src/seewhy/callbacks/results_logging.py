"""What the loggers are told of the explanations when the loop has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from seewhy.callbacks.journal_reader import JournalUser
from seewhy.core.files import RunFolder
from seewhy.models.classifier import Classifier
from seewhy.runs.logged_results import (
    average_curves,
    average_values,
    collect_values,
    describe_run,
    summarise_totals,
)
from seewhy.runs.loggers.group import LoggerGroup

TABLES = ("summary", "predictions", "metrics")
IMAGES = {"contact_sheet": "sheet.png", "curves": "curves.png"}


class ResultsLogging(JournalUser):
    """Logs numbers, curves, pictures, tables, the config, and one row by which runs are compared.

    Steps: per_image/* the position of the image in the run; curves/* the percentage of the pixels; everything else the
    training step of the network (0 for a loaded one). Pictures and tables are those that other callbacks wrote, so this
    one comes after them.

    Args:
        folder: The run folder.
        maximum: The most panels (figures/<image>.png) that are logged.
    """

    def __init__(self, folder: str, maximum: int = 16) -> None:
        self.folder = RunFolder(Path(folder))
        self.maximum = maximum

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Log all of it."""
        if not trainer.is_global_zero or not trainer.loggers:
            return
        loggers, journal, step = LoggerGroup(trainer.loggers), self.recorder.journal, trainer.global_step
        values = collect_values(journal)
        loggers.log_values({f"per_image/{name}": column for name, column in values.items()}, step)
        for name, points in average_curves(journal).items():
            loggers.log_curve(name, points)
        names = [
            explanation.name for explanation, _ in zip(journal.read_explanations(), range(self.maximum), strict=False)
        ]
        panels = {f"explanation/{name}": f"figures/{name}.png" for name in names}
        loggers.log_files(self.folder.path, TABLES, IMAGES | panels, step)
        loggers.log_config(self.folder.path)
        self._log_row(loggers, trainer, pl_module, average_values(values))

    def _log_row(
        self, loggers: LoggerGroup, trainer: Trainer, classifier: Classifier, averages: dict[str, float]
    ) -> None:
        totals = self.recorder.totals
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        parameters, results = describe_run(classifier, data, totals.images), averages | summarise_totals(totals)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if hasattr(callback, "describe_row"):
                more = callback.describe_row()
                parameters, results = parameters | more[0], results | more[1]
        loggers.log_run(parameters, results, trainer.global_step)
