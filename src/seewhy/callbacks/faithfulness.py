"""Measure the explanations of the test loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer

from seewhy.callbacks.journaling import JournalReader
from seewhy.core.files import RunFolder
from seewhy.core.settings import ProbeBatchSize, Seed, Text, check_when_made
from seewhy.core.types import Batch
from seewhy.explainers.base import Explainer
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.batch import build_context, measure_batch, select_masks, select_measurable
from seewhy.models.classifier import Classifier
from seewhy.runs.batch_results import collect_curve_rows, record_cost
from seewhy.statistics.schema import collect_metric_facts, describe_variant

if TYPE_CHECKING:
    import pandas as pd


@check_when_made("callbacks.{}")
class Faithfulness(JournalReader):
    """Adds the value of every metric to each explanation; comes after the callback `attribution`.

    Args:
        metrics: Each under its name.
        explainer: The method whose explanations are measured.
        folder: The run folder.
        seed: Of the metrics that draw random numbers, and of the bootstrap.
        probe_batch_size: Bound on the images in the network at once.
    """

    def __init__(
        self,
        metrics: Mapping[str, ImageMetric],
        explainer: Explainer,
        folder: Text,
        seed: Seed = 0,
        probe_batch_size: ProbeBatchSize = "auto",
    ) -> None:
        self.metrics = dict(metrics)
        self.explainer = explainer
        self.folder = RunFolder(Path(folder))
        self.options: dict[str, Any] = {"seed": seed, "probe_batch_size": probe_batch_size}
        self.has_probabilities = True
        self.summary: pd.DataFrame | None = None
        """Of all images, once the loop has ended."""

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Refuse metrics that all need masks where there are none; settle what the explainer leaves to the network."""
        self.has_probabilities = pl_module.facts.has_probabilities
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if self.metrics and hasattr(data, "masks"):
            select_measurable(self.metrics, data.masks is not None)
        if self.metrics:
            self.explainer = self.explainer.resolve(pl_module, pl_module.facts.shape)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *rest: int
    ) -> None:
        """Measure the explanations of the batch."""
        explanations = outputs.get("explanations", [])
        if not self.metrics or not explanations:
            return
        metrics, outputs["left_out"] = select_measurable(self.metrics, batch.masks is not None)
        masks = select_masks(batch, explanations)
        with record_cost(pl_module, outputs, "metrics"):
            with trainer.precision_plugin.forward_context():
                context = build_context(pl_module, explanations, self.explainer, masks=masks, **self.options)
                outputs["explanations"] = measure_batch(context, explanations, metrics)
                outputs["curves"] = collect_curve_rows(context, explanations)
            for metric in metrics.values():
                metric.reset()  # the values are in the journal

    @property
    def left_out(self) -> list[str]:
        """The names of the metrics that need what the data lack."""
        return self.recorder.totals.left_out

    def _select_measured(self) -> dict[str, ImageMetric]:
        return {name: metric for name, metric in self.metrics.items() if name not in self.left_out}

    def write(self, trainer: Trainer, classifier: Classifier) -> None:
        """Write summary.csv, metrics.json and the curves of all finished images."""
        if not self.metrics:
            return
        from seewhy.runs.scores import write_curves, write_scores

        seed, journal = self.options["seed"], self.recorder.journal
        facts = collect_metric_facts(self._select_measured().values(), self.has_probabilities)
        self.summary = write_scores(self.folder, facts, journal, seed)
        write_curves(self.folder, journal, f"{self.explainer.name} on {classifier.name}", seed)

    def record(self) -> dict[str, Any]:
        """Describe the metrics for the record of the run.

        Returns:
            The variant of each, passes and seconds; empty without metrics.
        """
        if not self.metrics:
            return {}
        measured = self._select_measured().items()
        variants = {name: describe_variant(metric, self.has_probabilities) for name, metric in measured}
        return {"metrics": variants, **self.recorder.totals.describe_metrics()}
