"""What a run tells when its loop has ended: the tables, the terminal and the loggers."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.markup import escape

from seewhy.callbacks.attribution import Attribution
from seewhy.callbacks.faithfulness import Faithfulness
from seewhy.callbacks.journaling import JournalReader, JournalUser, find_callback
from seewhy.callbacks.pictures import Figures
from seewhy.callbacks.precision import Precision
from seewhy.core.files import RunFolder
from seewhy.core.settings import Amount, Text, check_when_made
from seewhy.core.target_choice import name_image
from seewhy.models.classifier import Classifier
from seewhy.runs.console import (
    TextConsole,
    build_results_table,
    describe_accuracy,
    describe_work,
    doubt_accuracy,
    list_caveats,
)
from seewhy.runs.logged_results import (
    average_curves,
    average_values,
    collect_values,
    describe_run,
    summarise_totals,
)
from seewhy.runs.loggers.backends import LoggerGroup
from seewhy.runs.tables import write_tables


@check_when_made("callbacks.{}")
class Tables(JournalReader):
    """Writes predictions.csv, metrics.csv (one number per row) and skipped.csv when the loop ends, however it ends.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Text) -> None:
        self.folder = RunFolder(Path(folder))
        self.cut = self.doubt = ""

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Find out how much of the pictures is cut."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.cut = str(data.describe_cut()) if hasattr(data, "describe_cut") else ""

    def write(self, trainer: Trainer, classifier: Classifier) -> None:
        """Write all three tables."""
        self.doubt = doubt_accuracy(self.recorder.totals, len(classifier.facts.classes), classifier.doubts)
        write_tables(self.folder, self.recorder.journal)

    def record(self) -> dict[str, Any]:
        """Describe the images for the record of the run.

        Returns:
            How many were read and skipped, how much of them is cut, and why their accuracy may be no better than chance.
        """
        texts = {"pictures_cut": self.cut, "accuracy_warning": self.doubt}
        return self.recorder.totals.describe_images() | {key: text for key, text in texts.items() if text}


@check_when_made("callbacks.{}")
class Terminal(JournalUser):
    """Prints before the loop the work ahead, and after it the results.

    Args:
        folder: The run folder.
        rows: The most images in the table.
    """

    def __init__(self, folder: Text, rows: Amount = 40) -> None:
        self.folder = RunFolder(Path(folder))
        self.rows = rows
        self.console = TextConsole()

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
        faithfulness = find_callback(trainer, Faithfulness)
        for line in faithfulness.list_bounds() if faithfulness is not None else ():
            self.console.print(f"[dim]{escape(line)}[/]", soft_wrap=True)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if cut := data.describe_cut() if hasattr(data, "describe_cut") else "":
            self.console.print(f"[dim]{escape(cut)}[/]", soft_wrap=True)
        if self.recorder.finished_images:
            self.console.print(f"going on: {self.recorder.finished_images:,} of {images:,} images are done")

    def on_test_batch_start(self, trainer: Trainer, *rest: object) -> None:
        """Say in the progress bar what is done with the images; Lightning calls it `Testing`."""
        bar: Any = trainer.progress_bar_callback
        attribution = find_callback(trainer, Attribution)
        explains = attribution is not None and attribution.limit != 0
        task = bar.test_progress_bar_id if isinstance(bar, RichProgressBar) and bar.progress is not None else None
        if explains and task is not None:  # a bar that refreshes rarely may have none yet
            bar.progress.update(task, description="Explaining")

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Print the table of images, the scores and what a reader must know."""
        if not trainer.is_global_zero:
            return
        totals = self.recorder.totals
        explanations = list(islice(self.recorder.journal.read_explanations(), self.rows))
        if explanations:
            self.console.print()
            self.console.print(build_results_table(explanations, self.console.width))
        if totals.explained > len(explanations):
            more = totals.explained - len(explanations)
            self.console.print(f"... and {more:,} more in predictions.csv and metrics.csv")
        figures = find_callback(trainer, Figures)
        if figures is not None and figures.drawn < totals.explained_images:
            sentence = f"figures of {figures.drawn:,} of {totals.explained_images:,} images are drawn"
            self.console.print(f"{sentence}; callbacks.figures.limit=null draws all", soft_wrap=True)
        attribution = find_callback(trainer, Attribution)
        if explanations and attribution is not None and attribution.format.store == "none":
            self.console.print("no map is stored (callbacks.attribution.store=none)", soft_wrap=True)
        if accuracy := describe_accuracy(totals):
            self.console.print(escape(accuracy), soft_wrap=True)
        self._print_scores(trainer)
        precision = find_callback(trainer, Precision)
        results, warnings = ([], []) if precision is None else precision.list_lines()
        for line in results:
            self.console.print(escape(line), soft_wrap=True)
        for caveat in (*list_caveats(totals, pl_module), *warnings):
            self.console.print(f"[yellow]{escape(caveat)}[/]", soft_wrap=True)

    def _print_scores(self, trainer: Trainer) -> None:
        faithfulness = find_callback(trainer, Faithfulness)
        if faithfulness is None or faithfulness.summary is None:
            return
        from seewhy.report.leaderboard import build_scores_table

        self.console.print()
        self.console.print(build_scores_table(faithfulness.summary))
        if faithfulness.left_out:
            self.console.print(f"[yellow]needs object masks (data.masks=): {', '.join(faithfulness.left_out)}[/]")


TABLES = ("summary", "predictions", "metrics")
IMAGES = {"contact_sheet": "sheet.png", "curves": "curves.png"}


@check_when_made("callbacks.{}")
class ResultsLogging(JournalUser):
    """Logs numbers, curves, pictures, tables, the config, and one row by which runs are compared.

    Steps: per_image/* the position of the image in the run; curves/* the percentage of the pixels; everything else the
    training step of the network (0 for a loaded one). Pictures and tables are those that other callbacks wrote, so this
    one comes after them.

    Args:
        folder: The run folder.
        maximum: The most panels (figures/<image>.png) that are logged.
    """

    def __init__(self, folder: Text, maximum: Amount = 16) -> None:
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
        names = [explanation.name for explanation in journal.read_explanations()]
        pictured = islice(dict.fromkeys(map(name_image, names)), self.maximum)
        panels = {f"explanation/{name}": f"figures/{name}.png" for name in pictured}
        loggers.log_files(self.folder.path, TABLES, IMAGES | panels, step)
        loggers.log_config(self.folder.path)
        self._log_verdict(loggers, trainer, pl_module)
        self._log_row(loggers, trainer, pl_module, average_values(values, names))

    def _log_verdict(self, loggers: LoggerGroup, trainer: Trainer, classifier: Classifier) -> None:
        """Log the six lines on the method as a table of texts; controls are in other runs, so some stay open."""
        faithfulness, attribution = find_callback(trainer, Faithfulness), find_callback(trainer, Attribution)
        if faithfulness is None or attribution is None or faithfulness.summary is None:
            return
        from seewhy.analyses.ground_truth.certificate import read_certificate
        from seewhy.report.verdict import describe_cell, judge_alone

        record, explainer = self.recorder.totals.describe_attributions(), attribution.explainer
        cost = sum(record["passes_per_image"].values()), record["attribution_seconds"] / record["images_explained"]
        tolerance = getattr(explainer, "tolerance", None)
        lines = judge_alone(faithfulness.summary, explainer.name, classifier.name, tolerance, cost, read_certificate())
        if lines:
            rows = [{"line": each.line, "verdict": describe_cell(each), "meaning": each.sentence} for each in lines]
            loggers.log_table("verdict", ("line", "verdict", "meaning"), rows)

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
