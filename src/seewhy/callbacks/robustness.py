"""Measure the test images again under corruption, level by level."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, Trainer

from seewhy.analyses.robustness.figures import select_headline_quantities
from seewhy.analyses.robustness.measure import Measurement, describe_work, find_existing_maps
from seewhy.analyses.robustness.report import build_results_table, log_summary, write_figures, write_rows, write_summary
from seewhy.analyses.robustness.sheets import Gallery
from seewhy.analyses.robustness.summary import CLEAN, average_over_corruptions, read_reference, summarise_robustness
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.settings import Amount, Auto, PathText, ProbeBatchSize, Processes, Seed, Text, check_when_made
from seewhy.core.types import Batch
from seewhy.core.words import count_noun
from seewhy.data.corruptions.attacks import Attack
from seewhy.data.corruptions.base import Corruption
from seewhy.data.corruptions.corrupter import Corrupter, count_workers
from seewhy.explainers.base import Explainer
from seewhy.metrics.base import ImageMetric
from seewhy.models.classifier import Classifier, Passes
from seewhy.runs.console import TextConsole
from seewhy.runs.loggers.backends import LoggerGroup
from seewhy.statistics.schema import MetricFact, collect_metric_facts, describe_variant

if TYPE_CHECKING:
    pass


@check_when_made("callbacks.{}")
class Robustness(Callback):
    """Writes robustness.csv, robustness_summary.csv, curves, a heat table and sheets; comes last in the list.

    The data module corrupts each image in its worker processes right after decoding it; attacks need the classifier and
    are made here. Clean maps of the callback `attribution` are used where they explain the same class with the same
    explainer.

    Args:
        corruptions: Corruptions and attacks, each under its name.
        explainer: The method whose maps are compared.
        folder: The run folder.
        also: Further methods.
        metrics: Metrics that are measured on the corrupted images too.
        reference: A csv file of a reference model's errors.
        explain: How many images are explained; None: all.
        seed: Of corruptions, metrics and bootstrap.
        probe_batch_size: Bound on the images in the network at once.
        workers: Processes that corrupt images; auto is half of the cores.
        sheet_images: Images on the sheets.

    Raises:
        UserError: If there is no corruption.
    """

    whole_run = True  # needs every image in one process

    def __init__(
        self,
        corruptions: Mapping[str, Corruption | Attack] | None,
        explainer: Explainer,
        folder: Text,
        also: Mapping[str, Explainer] | None = None,
        metrics: Mapping[str, ImageMetric] | None = None,
        reference: PathText | None = None,
        explain: Amount | None = None,
        seed: Seed = 0,
        probe_batch_size: ProbeBatchSize = "auto",
        workers: Processes | Auto = "auto",
        sheet_images: Amount = 10,
    ) -> None:
        if not corruptions:
            raise UserError("no corruption was picked: set corruption=study, corruption=all or 'corruption=[jpeg,fog]'")
        self.attacks = {name: each for name, each in corruptions.items() if isinstance(each, Attack)}
        self.corruptions = {name: each for name, each in corruptions.items() if not isinstance(each, Attack)}
        self.differences = {name: each.differs for name, each in self.corruptions.items()}
        self.explainers = {explainer.name: explainer, **(also or {})}
        self.metrics = dict(metrics or {})
        self.reference = None if reference is None else read_reference(reference)
        self.folder = RunFolder(Path(folder))
        self.explain = explain
        self.options: dict[str, Any] = {"seed": seed, "probe_batch_size": probe_batch_size}
        self.workers = count_workers(workers)
        few = len(corruptions) <= 6
        signed = {name: each.signed for name, each in self.explainers.items()}
        self.gallery = Gallery(signed, maximum=sheet_images, longest=240 if few else 120)
        self.rows: list[dict[str, Any]] = []
        self.seconds = {"corruption": 0.0, "waiting": 0.0}
        self.explained = 0
        self.averages: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: Classifier, stage: str) -> None:  # type: ignore[override]
        """Ask the data module for the corrupted versions of its test images."""
        if stage != "test":
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(data, "corrupt"):
            raise UserError(f"{type(data).__name__} cannot corrupt its images: use data=folder, samples or cifar10")
        self.gallery.display = pl_module.facts.display
        self.corrupter = Corrupter(self.corruptions, pl_module.facts, self.options["seed"])
        data.corrupt = self.corrupter
        data.num_workers = data.num_workers or (self.workers if self.corruptions else 0)

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Settle what the explainers leave to the network; start the clock."""
        size = pl_module.facts.shape
        self.has_probabilities = pl_module.facts.has_probabilities
        self.explainers = {name: each.resolve(pl_module, size) for name, each in self.explainers.items()}
        steps = self.corrupter.steps, self.corrupter.moving
        self.measurement = Measurement(pl_module, self.explainers, self.metrics, *steps, self.attacks, **self.options)
        self.before = Passes(pl_module.passes.forward, pl_module.passes.backward)
        self.started = self.mark = time.perf_counter()

    def on_test_batch_start(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, batch: Batch, *rest: int
    ) -> None:
        """Count the seconds that the network waited for images."""
        self.seconds["waiting"] += time.perf_counter() - self.mark

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *rest: int
    ) -> None:
        """Measure the corrupted versions of one batch."""
        if len(batch.images):
            count = len(batch.images)
            if self.explain is not None:
                count = max(0, min(count, self.explain - self.explained))
            with trainer.precision_plugin.forward_context():
                maps = find_existing_maps(outputs, batch, outputs["logits"].argmax(1)[:count], self.explainers)
                clean = self.measurement.clean(batch, outputs["logits"], count, maps)
                for measured in self.measurement.run(clean):
                    self.rows += [row for line in measured.rows for row in line]
                    self.gallery.add(measured)
            self.explained += count
            if batch.corrupted is not None:
                self.seconds["corruption"] += float(batch.corrupted.seconds.sum())
        self.mark = time.perf_counter()

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Write the tables and figures."""
        self.total = time.perf_counter() - self.started
        self.passes = pl_module.passes.since(self.before)
        if not self.rows:
            return
        write_rows(self.folder, self._ordered())
        summary = summarise_robustness(self._ordered(), self.reference, self.options["seed"], self._collect_facts())
        write_summary(self.folder, summary, self.differences)
        images = sum(row["corruption"] == CLEAN for row in self.rows)
        title = f"{pl_module.name} ({pl_module.origin})  ·  {count_noun(images, 'image')}"
        names = list(self.explainers), list(self.metrics)
        written = write_figures(self.folder, summary, self.gallery, title, *names)
        log_summary(LoggerGroup(trainer.loggers), summary, self.folder.path, written)
        quantities = select_headline_quantities(list(summary.quantity.unique()), list(self.explainers))
        self.averages = average_over_corruptions(summary, quantities)
        TextConsole().print(build_results_table(summary, quantities, self.differences))

    def describe_row(self) -> tuple[dict[str, str], dict[str, float]]:
        """What the row by which runs are compared says of the corruptions.

        Returns:
            (the corruptions and explainers, averages over all corruptions and levels).
        """
        names = ", ".join((*self.corruptions, *self.attacks))
        return {"corruptions": names, "explainers": ", ".join(self.explainers)}, self.averages

    def on_exception(self, trainer: Trainer, pl_module: Classifier, exception: BaseException) -> None:  # type: ignore[override]
        """Write the rows that were measured before the error."""
        if self.rows:
            write_rows(self.folder, self._ordered())

    def _ordered(self) -> list[dict[str, Any]]:
        """Image by image, and for each the clean image, the corruptions and the attacks, level by level."""
        images = {name: order for order, name in enumerate(dict.fromkeys(row["image"] for row in self.rows))}
        kinds = {name: order for order, name in enumerate((CLEAN, *self.corruptions, *self.attacks))}
        return sorted(self.rows, key=lambda row: (images[row["image"]], kinds[row["corruption"]], row["level"]))

    def _collect_facts(self) -> dict[str, MetricFact]:
        """What the metrics say of their columns, under the names that these have for each explainer."""
        facts = collect_metric_facts(self.metrics.values(), self.has_probabilities)
        return {
            f"{name}_{column}": dataclasses.replace(fact, draws=tuple(f"{name}_{draw}" for draw in fact.draws))
            for name in self.explainers
            for column, fact in facts.items()
        }

    def record(self) -> dict[str, Any]:
        """Describe the robustness for the record of the run.

        Returns:
            What was measured and what the work took; empty where nothing was measured.
        """
        if not self.rows:
            return {}
        images, seconds = sum(row["corruption"] == CLEAN for row in self.rows), self.seconds | {"total": self.total}
        return {
            "robustness": {
                "corruptions": [*self.corruptions, *self.attacks],
                "explainers": {name: each.parameters for name, each in self.explainers.items()},
                "metrics": {
                    name: describe_variant(metric, self.has_probabilities) for name, metric in self.metrics.items()
                },
                "images": images,
                "images_explained": self.explained,
                "workers": self.workers,
                **describe_work(self.measurement, seconds, self.passes.forward, images, self.explained),
            }
        }
