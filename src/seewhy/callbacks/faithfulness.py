"""Measure the explanations of the test loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer

from seewhy.callbacks.attribution import Attribution
from seewhy.callbacks.journaling import JournalReader, find_callback
from seewhy.core.files import RunFolder
from seewhy.core.settings import ProbeBatchSize, Seed, Text, check_when_made
from seewhy.core.target_choice import parse_targets
from seewhy.core.types import Batch, Explanation
from seewhy.explainers.base import Explainer
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.batch import (
    LEAST,
    build_context,
    count_measured,
    is_measured,
    measure_batch,
    select_masks,
    select_measurable,
)
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
        self.has_probabilities, self.has_contrast = True, False
        self.summary: pd.DataFrame | None = None
        """Of all images, once the loop has ended."""
        self.count: int | None = None
        """Images that are explained; None where that is not known, and every one is measured."""
        self.cost: float | None = None
        """Passes for all targets of an image; None where that depends on the image."""

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Refuse metrics that all need masks where there are none; settle what the explainer leaves to the network."""
        self.has_probabilities = pl_module.facts.has_probabilities
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if self.metrics and hasattr(data, "masks"):
            select_measurable(self.metrics, data.masks is not None)
        if self.metrics:
            self.explainer = self.explainer.resolve(pl_module, pl_module.facts.shape)
            self._plan(trainer, pl_module)

    def _plan(self, trainer: Trainer, classifier: Classifier) -> None:
        """Settle what decides on how many images the metrics with a bound on their passes are measured."""
        attribution, facts = find_callback(trainer, Attribution), classifier.facts
        if self.recorder.numbers is not None:
            self.count = sum(map(len, self.recorder.batches))
        if attribution is not None and attribution.limit is not None and self.count is not None:
            self.count = min(self.count, attribution.limit)
        targets = [] if attribution is None else parse_targets(attribution.target, facts.classes)
        self.has_contrast = any(target.is_contrast for target in targets)
        passes = self.explainer.passes_per_image(size=facts.size, classes=len(facts.classes))
        self.cost = None if passes is None else float(sum(passes) * max(1, len(targets)))

    def list_bounds(self) -> list[str]:
        """List what the bounds on passes leave of the work ahead.

        Returns:
            A sentence for each metric that is not measured on every image, or may not be.
        """
        return list(self._describe_bounds())

    def _describe_bounds(self) -> Iterator[str]:
        for key, metric in self.metrics.items():
            if metric.passes is None or not self.count:
                continue
            fix = f"metric.{key}.passes={metric.passes:,}; null measures all"
            if self.cost is None:
                yield f"{key}: on as many images as {metric.passes:,} passes allow, at least {LEAST} ({fix})"
                continue
            measured = count_measured(metric, self.cost, self.count)
            if measured < self.count:
                total = measured * metric.explanations * self.cost
                each = f"{metric.explanations} explanations × {self.cost:,.0f} passes"
                yield f"{key}: on {measured} of {self.count:,} images × {each} = {total:,.0f} passes ({fix})"

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: Classifier,
        outputs: dict[str, Any],
        batch: Batch,
        batch_idx: int,
        *rest: int,
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
                spent = outputs["costs"]["attribution"]
                images = len({each.image_name for each in explanations})
                cost = self.cost if self.cost is not None else (spent.forward + spent.backward) / images
                for rows, members in self._share_rows(metrics, explanations, batch, batch_idx, cost).items():
                    part, shared = [explanations[row] for row in rows], context
                    if len(rows) < len(explanations):
                        few = None if masks is None else masks[list(rows)]
                        shared = build_context(pl_module, part, self.explainer, masks=few, **self.options)
                    for row, measured in zip(rows, measure_batch(shared, part, members), strict=True):
                        explanations[row] = measured
                outputs["explanations"] = explanations
                outputs["curves"] = collect_curve_rows(context, explanations)
            for metric in metrics.values():
                metric.reset()  # the values are in the journal

    def _share_rows(
        self,
        metrics: Mapping[str, ImageMetric],
        explanations: Sequence[Explanation],
        batch: Batch,
        batch_idx: int,
        cost: float,
    ) -> dict[tuple[int, ...], dict[str, ImageMetric]]:
        """{rows of explanations: the metrics that are measured on them}, without those that are measured on none."""
        start = self.recorder.find_position(batch_idx, len(batch.names))
        positions = [start + batch.names.index(each.image_name) for each in explanations]
        shared: dict[tuple[int, ...], dict[str, ImageMetric]] = {}
        for key, metric in metrics.items():
            rows = tuple(range(len(positions)))
            if metric.passes is not None and self.count:
                measured = count_measured(metric, cost, self.count)
                rows = tuple(row for row in rows if is_measured(positions[row], measured, self.count))
            if rows:
                shared.setdefault(rows, {})[key] = metric
        return shared

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
        facts = collect_metric_facts(self._select_measured().values(), self.has_probabilities, self.has_contrast)
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
