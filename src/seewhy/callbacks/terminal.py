"""What a person reads while a run works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from rich.console import Console

from seewhy.callbacks.attribution import Attribution
from seewhy.callbacks.faithfulness import Faithfulness
from seewhy.classifier import Classifier
from seewhy.explanation import Explanation
from seewhy.terminal import results_table, work_ahead
from seewhy.types import Batch


class Terminal(Callback):
    """Says before the loop what will be done and what it costs, and after it what came out and where it lies."""

    def __init__(self, folder: str, rows: int = 40) -> None:
        self.folder = Path(folder)
        self.rows = rows
        self.count = 0
        self.shown: list[Explanation] = []
        self.warned = 0
        self.skipped = 0
        self.known = self.correct = 0
        self.console = Console(highlight=False)

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Print the work ahead."""
        explaining = next((part for part in trainer.callbacks if isinstance(part, Attribution)), None)  # type: ignore[attr-defined]
        loaders: Any = trainer.test_dataloaders
        images = sum(len(loader.dataset) for loader in (loaders if isinstance(loaders, list) else [loaders]))
        self.console.print(work_ahead(pl_module, explaining, images), soft_wrap=True)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *place: int
    ) -> None:
        """Remember the rows that will be shown, count right predictions."""
        known = batch.labels >= 0
        self.known += int(known.sum())
        self.correct += int((outputs["logits"].argmax(1) == batch.labels)[known].sum())
        made = outputs.get("explanations", [])
        self.shown += made[: self.rows - len(self.shown)]
        self.count += len(made)
        self.warned += sum(bool(one.warnings) for one in made)
        self.skipped += len(outputs.get("skipped", []))

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Print the table and the folder."""
        if self.shown:
            self.console.print(results_table(self.shown))
        if self.count > len(self.shown):
            self.console.print(f"... and {self.count - len(self.shown):,} more in predictions.csv and metrics.csv")
        if self.known:
            share = f"{100 * self.correct / self.known:.1f} %"
            self.console.print(f"{self.correct:,} of {self.known:,} images of a known class predicted right ({share})")
        self._print_scores(trainer)
        if self.warned:
            self.console.print(f"[yellow]{self.warned} of {self.count} maps carry a warning: see their figures[/]")
        if self.skipped:
            self.console.print(f"[yellow]{self.skipped} images were left out: see skipped.csv[/]")

    def _print_scores(self, trainer: Trainer) -> None:
        measuring = next((part for part in trainer.callbacks if isinstance(part, Faithfulness)), None)  # type: ignore[attr-defined]
        if measuring is None or measuring.summary is None:
            return
        from seewhy.report.leaderboard_table import scores_table

        self.console.print()
        self.console.print(scores_table(measuring.summary))
        if measuring.left_out:
            self.console.print(f"[yellow]left out without data.masks: {', '.join(measuring.left_out)}[/]")
