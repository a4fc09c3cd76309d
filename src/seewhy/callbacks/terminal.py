"""What a run prints before and after its loop."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from rich.console import Console

from seewhy.callbacks.attribution import Attribution
from seewhy.callbacks.faithfulness import Faithfulness
from seewhy.callbacks.journal_recorder import JournalRecorder, find_recorder
from seewhy.callbacks.pictures import Figures
from seewhy.models.classifier import Classifier
from seewhy.runs.console import build_results_table, describe_work


class Terminal(Callback):
    """Says before the loop what will be done and what it costs, and after it what came out and where it lies."""

    journaling: JournalRecorder

    def __init__(self, folder: str, rows: int = 40) -> None:
        self.folder = Path(folder)
        self.rows = rows
        self.console = Console(highlight=False)

    def setup(self, trainer: Trainer, pl_module: Classifier, stage: str) -> None:  # type: ignore[override]
        """Join the journal."""
        self.journaling = find_recorder(trainer, self.folder)

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Print the work ahead."""
        if not trainer.is_global_zero:
            return
        explaining = next((part for part in trainer.callbacks if isinstance(part, Attribution)), None)  # type: ignore[attr-defined]
        loaders: Any = trainer.test_dataloaders
        listed = loaders if isinstance(loaders, list) else [loaders]
        images = self.journaling.images or sum(len(loader.dataset) for loader in listed)
        if explaining is None:
            ahead = describe_work(pl_module)
        else:
            count = images if explaining.limit is None else min(images, explaining.limit)
            ahead = describe_work(pl_module, explaining.explainer, explaining.target, count)
        self.console.print(ahead, soft_wrap=True)
        if self.journaling.done:
            self.console.print(f"going on: {self.journaling.done:,} of {images:,} images are done")

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Print the table and the folder."""
        if not trainer.is_global_zero:
            return
        totals = self.journaling.totals()
        shown = list(islice(self.journaling.journal.explanations(), self.rows))
        if shown:
            self.console.print(build_results_table(shown))
        if totals.explained > len(shown):
            self.console.print(f"... and {totals.explained - len(shown):,} more in predictions.csv and metrics.csv")
        figures = next((part for part in trainer.callbacks if isinstance(part, Figures)), None)  # type: ignore[attr-defined]
        if figures is not None and figures.drawn < totals.explained:
            words = f"figures of {figures.drawn:,} of {totals.explained:,} images are drawn"
            self.console.print(f"{words}; callbacks.figures.limit=null draws all", soft_wrap=True)
        if totals.known:
            share = f"{100 * totals.correct / totals.known:.1f} %"
            self.console.print(
                f"{totals.correct:,} of {totals.known:,} images of a known class predicted right ({share})"
            )
        self._print_scores(trainer)
        if totals.warned:
            self.console.print(
                f"[yellow]{totals.warned} of {totals.explained} maps carry a warning: see their figures[/]"
            )
        if totals.skipped:
            self.console.print(f"[yellow]{totals.skipped} images were left out: see skipped.csv[/]")

    def _print_scores(self, trainer: Trainer) -> None:
        measuring = next((part for part in trainer.callbacks if isinstance(part, Faithfulness)), None)  # type: ignore[attr-defined]
        if measuring is None or measuring.summary is None:
            return
        from seewhy.report.terminal_tables import build_scores_table

        self.console.print()
        self.console.print(build_scores_table(measuring.summary))
        if measuring.left_out:
            self.console.print(f"[yellow]left out without data.masks: {', '.join(measuring.left_out)}[/]")
