"""Measure the explanations of the test loop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, Trainer

from seewhy.classifier import Classifier, Passes
from seewhy.explainers.base import Explainer
from seewhy.measure_batch import evidence_of, masks_of, measurable, measure_batch
from seewhy.metrics.base import ImageMetric
from seewhy.run_folder import RunFolder
from seewhy.score_rows import CurveRow, ScoreRow, curve_rows, score_rows
from seewhy.types import Batch

if TYPE_CHECKING:
    import pandas as pd


class Faithfulness(Callback):
    """Adds the value of every metric to each explanation; comes after the callback `attribution`."""

    def __init__(
        self,
        metrics: Mapping[str, ImageMetric],
        explainer: Explainer,
        folder: str,
        seed: int = 0,
        probe_batch_size: int | str = "auto",
    ) -> None:
        self.metrics = dict(metrics)
        self.explainer = explainer
        self.folder = RunFolder(Path(folder))
        self.options: dict[str, Any] = {"seed": seed, "probe_batch_size": probe_batch_size}
        self.left_out: list[str] = []
        self.seconds = 0.0
        self.passes = Passes()
        self.scores: list[ScoreRow] = []
        self.curves: list[CurveRow] = []
        self.summary: pd.DataFrame | None = None
        """Of all images, once the loop has ended."""

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Refuse metrics that all need masks where there are none, before any image is explained."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if self.metrics and hasattr(data, "masks"):
            measurable(self.metrics, data.masks is not None)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *place: int
    ) -> None:
        """Measure the explanations of the batch, count passes and seconds."""
        explanations = outputs.get("explanations", [])
        if not self.metrics or not explanations:
            return
        self.metrics, left_out = measurable(self.metrics, batch.masks is not None)
        self.left_out += left_out
        masks = masks_of(batch, explanations)
        before, start = Passes(pl_module.passes.forward, pl_module.passes.backward), time.perf_counter()
        with trainer.precision_plugin.forward_context():
            evidence = evidence_of(pl_module, explanations, self.explainer, masks=masks, **self.options)
            outputs["explanations"] = measure_batch(evidence, explanations, self.metrics)
            self.scores += score_rows(outputs["explanations"])
            self.curves += curve_rows(evidence, explanations)
        spent = pl_module.passes.since(before)
        self.seconds += time.perf_counter() - start
        self.passes = Passes(self.passes.forward + spent.forward, self.passes.backward + spent.backward)

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Write what was measured."""
        if not self.scores:
            return
        from seewhy.run_scores import write_curves, write_scores

        seed, images = self.options["seed"], len({row.image for row in self.scores})
        self.summary = write_scores(self.folder, self.metrics, self.scores, seed)
        write_curves(self.folder, self.curves, f"{self.explainer.name} on {pl_module.name}, {images} images", seed)

    def on_exception(self, trainer: Trainer, pl_module: Classifier, exception: BaseException) -> None:  # type: ignore[override]
        """Keep what was measured before the error."""
        if self.scores:
            from seewhy.run_scores import write_scores

            write_scores(self.folder, self.metrics, self.scores, self.options["seed"])

    def record(self) -> dict[str, Any]:
        """What the run's record says of the metrics."""
        if not self.metrics:
            return {}
        return {
            "metrics": {name: metric.variant for name, metric in self.metrics.items()},
            "metrics_left_out": self.left_out,
            "metric_passes": {"forward": self.passes.forward, "backward": self.passes.backward},
            "metric_seconds": round(self.seconds, 3),
        }
