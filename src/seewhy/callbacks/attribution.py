"""Explain the images of the test loop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from seewhy.callbacks.journal_recorder import JournalRecorder, find_recorder
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.targets import check_policy
from seewhy.core.types import Batch
from seewhy.explainers.base import Explainer
from seewhy.explainers.batch import explain_batch
from seewhy.models.classifier import Classifier, Passes
from seewhy.runs.attribution_files import AttributionFormat
from seewhy.runs.batch_results import Cost
from seewhy.runs.logged_results import describe_explainer


class Attribution(Callback):
    """Adds `explanations` and `skipped` to each test batch's outputs and stores the maps below attributions/.

    `limit` explains only images at the first places of the data set (None: all); `dtype` and `compressed` say how a map
    is stored (see `seewhy.runs.attribution_files`).
    """

    journaling: JournalRecorder

    def __init__(
        self,
        explainer: Explainer,
        folder: str,
        target: str | int = "predicted",
        limit: int | None = None,
        dtype: str = "float32",
        compressed: bool = False,
    ) -> None:
        if limit is not None and limit < 0:
            raise UserError(f"callbacks.attribution.limit={limit} must be 0 or more, or null for all images")
        self.explainer = explainer
        self.folder = RunFolder(Path(folder))
        self.target = "true" if target is True else target  # a command line's target=true is a boolean
        self.limit = limit
        self.form = AttributionFormat(dtype, compressed)

    def setup(self, trainer: Trainer, pl_module: Classifier, stage: str) -> None:  # type: ignore[override]
        """Join the journal."""
        self.journaling = find_recorder(trainer, self.folder.path)

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Refuse an unknown target before any image is read."""
        check_policy(self.target, pl_module.facts.classes)

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: Classifier,
        outputs: dict[str, Any],
        batch: Batch,
        batch_idx: int,
        *place: int,
    ) -> None:
        """Explain the batch, count passes and seconds."""
        left = len(batch.images)
        if self.limit is not None and left:
            left = min(left, self.limit - self.journaling.first(batch_idx, left))
        outputs["explanations"], outputs["skipped"] = [], list(batch.skipped)
        if left <= 0:
            return
        before, start = Passes(pl_module.passes.forward, pl_module.passes.backward), time.perf_counter()
        logits = outputs["logits"][:left]
        with trainer.precision_plugin.forward_context():
            made, skipped = explain_batch(pl_module, batch.first(left), logits, self.explainer, self.target)
        spent = pl_module.passes.since(before)
        cost = Cost(spent.forward, spent.backward, time.perf_counter() - start)
        outputs.setdefault("costs", {})["attribution"] = cost
        stored = outputs.setdefault("stored", {})
        for explanation in made:
            name = f"attributions/{explanation.name}{self.form.suffix}"
            stored[name] = self.folder.write_bytes(name, self.form.to_bytes(explanation.attribution)).stat().st_size
        outputs["explanations"] = made
        outputs["skipped"] += skipped

    def describe_row(self) -> tuple[dict[str, str | float], dict[str, float]]:
        """What the row by which runs are compared says of the attributions.

        Returns:
            (the explainer, its parameters and the target; no results, which are read from the journal).
        """
        return describe_explainer(self.explainer, self.target), {}

    def record(self) -> dict[str, Any]:
        """What the run's record says of the attributions."""
        return {
            "explainer": {
                "name": self.explainer.name,
                "parameters": self.explainer.parameters,
                "target": self.target,
                "signed": self.explainer.signed,
                "tolerance": getattr(self.explainer, "tolerance", None),
            },
            **self.journaling.totals().attribution_record(),
            "attribution_form": self.form.words,
        }
