"""Print what a run will do and cost, and what came out."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from rich.console import Console

from seewhy.callbacks.attribution import Attribution
from seewhy.callbacks.faithfulness import Faithfulness
from seewhy.callbacks.journal_reader import JournalUser
from seewhy.callbacks.journal_recorder import find_callback
from seewhy.callbacks.pictures import Figures
from seewhy.core.files import RunFolder
from seewhy.models.classifier import Classifier
from seewhy.runs.console import build_results_table, describe_accuracy, describe_work, list_caveats


class Terminal(JournalUser):
    """Prints before the loop the work ahead, and after it the results.

    Args:
        folder: The run folder.
        rows: The most images in the table.
    """

    def __init__(self, folder: str, rows: int = 40) -> None:
        self.folder = RunFolder(Path(folder))
        self.rows = rows
        self.console = Console(highlight=False)

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Print the work ahead."""
        if not trainer.is_global_zero:
            return
        loaders: Any = trainer.test_dataloaders
        listed = loaders if isinstance(loaders, list) else [loaders]
        images = self.recorder.images or sum(len(loader.dataset) for loader in listed)
        attribution = find_callback(trainer, Attribution)
        if attribution is None:
            work = describe_work(pl_module)
        else:
            count = images if attribution.limit is None else min(images, attribution.limit)
            work = describe_work(pl_module, attribution.explainer, attribution.target, count)
        self.console.print(work, soft_wrap=True)
        if self.recorder.finished_images:
            self.console.print(f"going on: {self.recorder.finished_images:,} of {images:,} images are done")

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Print the table of images, the scores and what a reader must know."""
        if not trainer.is_global_zero:
            return
        totals = self.recorder.totals
        explanations = list(islice(self.recorder.journal.read_explanations(), self.rows))
        if explanations:
            self.console.print(build_results_table(explanations))
        if totals.explained > len(explanations):
            more = totals.explained - len(explanations)
            self.console.print(f"... and {more:,} more in predictions.csv and metrics.csv")
        figures = find_callback(trainer, Figures)
        if figures is not None and figures.drawn < totals.explained:
            sentence = f"figures of {figures.drawn:,} of {totals.explained:,} images are drawn"
            self.console.print(f"{sentence}; callbacks.figures.limit=null draws all", soft_wrap=True)
        if totals.labelled:
            self.console.print(describe_accuracy(totals))
        self._print_scores(trainer)
        for caveat in list_caveats(totals):
            self.console.print(f"[yellow]{caveat}[/]")

    def _print_scores(self, trainer: Trainer) -> None:
        faithfulness = find_callback(trainer, Faithfulness)
        if faithfulness is None or faithfulness.summary is None:
            return
        from seewhy.report.terminal_tables import build_scores_table

        self.console.print()
        self.console.print(build_scores_table(faithfulness.summary))
        if faithfulness.left_out:
            self.console.print(f"[yellow]left out without data.masks: {', '.join(faithfulness.left_out)}[/]")
