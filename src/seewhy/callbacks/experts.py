"""Find the inner units that speak for each class of a data set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from seewhy.core.files import RunFolder
from seewhy.core.types import Batch
from seewhy.explainers.influence.data_influence import read_distribution
from seewhy.explainers.influence.experts import CURVE_COLUMNS, RANKING_COLUMNS, Survey
from seewhy.models.classifier import Classifier
from seewhy.plots.canvas import encode_figure
from seewhy.plots.expert_curve import draw_expert_curve
from seewhy.runs.loggers.group import LoggerGroup


class Experts(Callback):
    """Writes influences.safetensors and experts.csv before the loop, experts_curve.csv and its figure after it.

    The influences are means over training images, or over the images of the loop where the data have no training set.

    Args:
        folder: The run folder.
        images: How many images the influences are means over.
        limit: The curve is measured on the first images of the loop.
        count: Experts of each class in experts.csv.
        seed: Of the control that keeps random units.
        options: Keywords of `seewhy.explainers.influence.experts.Survey.measure`.
    """

    whole_run = True  # needs every image in one process

    def __init__(
        self, folder: str, images: int = 5000, limit: int = 1000, count: int = 10, seed: int = 0, **options: Any
    ) -> None:
        self.folder = RunFolder(Path(folder))
        self.images, self.limit, self.count, self.seed = images, limit, count, seed
        self.options = options
        self.facts: dict[str, Any] = {}
        self.batches: list[Batch] = []

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Measure the influences, so that explainer.distribution=class can use them in the same run."""
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
