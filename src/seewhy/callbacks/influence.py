"""What decisions rest on: training images (representer points) and inner units (experts)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from seewhy.analyses.representers.report import RepresenterReport, build_report
from seewhy.core.files import RunFolder
from seewhy.core.settings import (
    Amount,
    Count,
    ImageCount,
    OneOf,
    Positive,
    ProbeBatchSize,
    Seed,
    Target,
    Text,
    check_when_made,
)
from seewhy.core.targets import check_policy
from seewhy.core.types import Batch
from seewhy.data.loading import require_training_set
from seewhy.explainers.influence.data_influence import Reduction, read_distribution
from seewhy.explainers.influence.experts import CURVE_COLUMNS, RANKING_COLUMNS, Survey
from seewhy.models.classifier import Classifier
from seewhy.plots.canvas import encode_figure
from seewhy.plots.curves import draw_expert_curve
from seewhy.runs.loggers.backends import LoggerGroup

TABLES = ("representers", "importance", "consistency")


@check_when_made("callbacks.{}")
class Representers(Callback):
    """Writes representers.csv, importance.csv, consistency.csv and figures/representers/ for the first test images.

    Args:
        folder: The run folder.
        target: The target class: predicted, true, runner_up, an index or a name.
        limit: The most test images, which are held in memory until the loop ends.
        pictures: How many of them are drawn.
        fit_to: What the last layer is refitted to: the `network`'s own probabilities or the `labels`.
        l2: Penalty of the refitted layer.
        least_pearson: Correlation with the network's probabilities below which nothing is shown.
        count: Training images for, and against, each decision.
        neighbours: Of class consistency.
        probe_batch_size: Bound on the images in the network at once, or `auto`.
    """

    whole_run = True  # needs every image in one process

    def __init__(
        self,
        folder: Text,
        target: Target,
        limit: ImageCount = 1000,
        pictures: Amount = 16,
        fit_to: Annotated[str, OneOf(("network", "labels"))] = "network",
        l2: Positive = 0.003,
        least_pearson: Annotated[float, Ge(-1), Le(1)] = 0.99,
        count: Count = 5,
        neighbours: Count = 10,
        probe_batch_size: ProbeBatchSize = "auto",
    ) -> None:
        self.folder = RunFolder(Path(folder))
        self.target = "true" if target is True else target  # a command line's target=true is a boolean
        self.limit, self.pictures = limit, pictures
        self.options = {
            "fit_to": fit_to,
            "l2": l2,
            "least_pearson": least_pearson,
            "count": count,
            "neighbours": neighbours,
            "probe_batch_size": probe_batch_size,
        }
        self.report: RepresenterReport | None = None
        self.batches: list[Batch] = []
        self.logits: list[Tensor] = []

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Refuse an unknown target, other outputs and data without a training set before any image is read."""
        pl_module.facts.require_score("callbacks=representers", "softmax")
        check_policy(self.target, pl_module.facts.classes)
        require_training_set(trainer.datamodule, "callbacks=representers")  # type: ignore[attr-defined]

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *rest: int
    ) -> None:
        """Hold the first images."""
        left = self.limit - sum(len(each.names) for each in self.batches)
        if left > 0 and batch.names:
            self.batches.append(batch.first(left))
            self.logits.append(outputs["logits"][:left])

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Refit, stream the values, write tables and pictures."""
        if not self.batches:
            return
        data = require_training_set(trainer.datamodule, "callbacks=representers")  # type: ignore[attr-defined]
        self.report = build_report(pl_module, data, self.batches, self.logits, self.target, **self.options)
        self.report.write(self.folder)
        figures = {}
        for name, figure in self.report.figures(self.pictures):
            figures[f"representers/{name}"] = f"figures/representers/{name}.png"
            self.folder.write_bytes(f"figures/representers/{name}.png", encode_figure(figure))
        LoggerGroup(trainer.loggers).log_files(self.folder.path, TABLES, figures, trainer.global_step)

    def record(self) -> dict[str, Any]:
        """Describe the refitted layer for the record of the run.

        Returns:
            Its facts; empty where nothing was computed.
        """
        return {"representers": self.report.facts()} if self.report else {}


@check_when_made("callbacks.{}")
class Experts(Callback):
    """Writes influences.safetensors and experts.csv before the loop, experts_curve.csv and its figure after it.

    The influences are means over training images, or over the images of the loop where the data have no training set.

    Args:
        folder: The run folder.
        images: How many images the influences are means over.
        limit: The curve is measured on the first images of the loop.
        count: Experts of each class in experts.csv.
        seed: Of the control that keeps random units.
        layer: Name of the layer; None: the classifier's influence layer.
        reduction: `mean` or `max` over the positions of a channel.
        probe_batch_size: Bound on the images in the network at once, or `auto`.
    """

    whole_run = True  # needs every image in one process

    def __init__(
        self,
        folder: Text,
        images: ImageCount = 5000,
        limit: ImageCount = 1000,
        count: Count = 10,
        seed: Seed = 0,
        layer: Text | None = None,
        reduction: Reduction = "mean",
        probe_batch_size: ProbeBatchSize = "auto",
    ) -> None:
        self.folder = RunFolder(Path(folder))
        self.images, self.limit, self.count, self.seed = images, limit, count, seed
        self.options: dict[str, Any] = {"layer": layer, "reduction": reduction, "probe_batch_size": probe_batch_size}
        self.facts: dict[str, Any] = {}
        self.batches: list[Batch] = []

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Measure the influences, so that explainer.distribution=class can use them in the same run."""
        pl_module.facts.require_score("callbacks=experts", "softmax", "binary")
        start = time.perf_counter()
        source, batches = read_distribution(trainer, self.images)
        self.survey = Survey.measure(pl_module, batches, **self.options)
        self.folder.write_bytes("influences.safetensors", self.survey.influence.to_bytes())
        self.folder.write_csv("experts.csv", RANKING_COLUMNS, self.survey.list_ranking(self.count))
        self.facts = self.survey.describe() | {"influences_from": source}
        self.facts["influence_seconds"] = round(time.perf_counter() - start, 3)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *rest: int
    ) -> None:
        """Hold the first images for the curve."""
        left = self.limit - sum(len(each.names) for each in self.batches)
        if left > 0 and batch.names:
            self.batches.append(batch.first(left))

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Measure and draw what is left of each class when only its experts are kept."""
        curve, images = self.survey.measure_curve(self.batches, self.seed)
        if not curve:
            return
        self.folder.write_csv("experts_curve.csv", CURVE_COLUMNS, self.survey.list_curve(curve))
        figure = draw_expert_curve(curve, self.survey.cut.name, images)
        self.folder.write_bytes("figures/experts/curve.png", encode_figure(figure))
        figures = {"experts/curve": "figures/experts/curve.png"}
        LoggerGroup(trainer.loggers).log_files(
            self.folder.path, ("experts", "experts_curve"), figures, trainer.global_step
        )
        self.facts |= {"curve_images": images}

    def record(self) -> dict[str, Any]:
        """Describe the experts for the record of the run.

        Returns:
            Facts of the survey and of its curve.
        """
        return {"experts": self.facts}
