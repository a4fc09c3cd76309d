"""Explain the images of the test loop."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, Trainer

from seewhy.classifier import Classifier, Passes
from seewhy.errors import UserError
from seewhy.explain_batch import explain_batch
from seewhy.explainers.base import Explainer
from seewhy.run_folder import RunFolder
from seewhy.targets import check_policy
from seewhy.types import Batch


class Attribution(Callback):
    """Adds `explanations` and `skipped` to each test batch's outputs and stores the maps as attributions/<image>.npy.

    `limit` explains only the first images of the loop (None: all).
    """

    def __init__(self, explainer: Explainer, folder: str, target: str | int = "predicted", limit: int | None = None):
        if limit is not None and limit < 0:
            raise UserError(f"callbacks.attribution.limit={limit} must be 0 or more, or null for all images")
        self.explainer = explainer
        self.folder = RunFolder(Path(folder))
        self.target = "true" if target is True else target  # a command line's target=true is a boolean
        self.limit = limit
        self.count = 0
        self.seconds = 0.0
        self.passes = Passes()

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Refuse an unknown target before any image is read."""
        check_policy(self.target, pl_module.facts.classes)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *place: int
    ) -> None:
        """Explain the batch, count passes and seconds."""
        left = len(batch.images) if self.limit is None else min(self.limit - self.count, len(batch.images))
        outputs["explanations"], outputs["skipped"] = [], list(batch.skipped)
        if left <= 0:
            return
        before, start = Passes(pl_module.passes.forward, pl_module.passes.backward), time.perf_counter()
        logits = outputs["logits"][:left]
        with trainer.precision_plugin.forward_context():
            made, skipped = explain_batch(pl_module, batch.first(left), logits, self.explainer, self.target)
        spent = pl_module.passes.since(before)
        self.seconds += time.perf_counter() - start
        self.passes = Passes(self.passes.forward + spent.forward, self.passes.backward + spent.backward)
        self.count += len(made)
        for explanation in made:
            content = io.BytesIO()
            np.save(content, explanation.attribution.numpy())
            self.folder.write_bytes(f"attributions/{explanation.name}.npy", content.getvalue())
        outputs["explanations"] = made
        outputs["skipped"] += skipped

    def record(self) -> dict[str, Any]:
        """What the run's record says of the attributions."""
        images = max(self.count, 1)
        per_image = {"forward": self.passes.forward / images, "backward": self.passes.backward / images}
        return {
            "explainer": {"name": self.explainer.name, "parameters": self.explainer.parameters, "target": self.target},
            "images_explained": self.count,
            "passes_per_image": per_image,
            "attribution_seconds": round(self.seconds, 3),
        }
