"""Explain the images of the test loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from lightning.pytorch import Trainer

from seewhy.callbacks.journaling import FileWriter
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.settings import Amount, OneOf, TargetList, Text, check_when_made
from seewhy.core.target_choice import describe_target, parse_targets
from seewhy.core.types import Batch
from seewhy.explainers.base import Explainer
from seewhy.explainers.batch import explain_batch
from seewhy.models.classifier import Classifier
from seewhy.runs.attribution_files import DTYPES, STORES, AttributionFormat, BackgroundWriter
from seewhy.runs.batch_results import record_cost
from seewhy.runs.logged_results import describe_explainer

WAITING = 128
"""Files of a map each that may wait to be written; their number bounds the memory."""


@check_when_made("callbacks.{}")
class Attribution(FileWriter):
    """Adds `explanations` and `skipped` to each test batch's outputs, and stores the maps below attributions/.

    Args:
        explainer: The method.
        folder: The run folder.
        target: What is explained, see `seewhy.core.target_choice.parse_targets`.
        limit: Only images at the first positions of the data set are explained; None: all.
        dtype: Of the stored maps: float32 or float16.
        compressed: Whether the stored maps are compressed.
        store: A file for each of the `images`, or of the `batches`; `none`: the tables alone are left.

    Raises:
        UserError: If `limit` is negative, `dtype` or `store` another one, or files of batches are to be compressed.
    """

    def __init__(
        self,
        explainer: Explainer,
        folder: Text,
        target: TargetList = "predicted",
        limit: Amount | None = None,
        dtype: Annotated[str, OneOf(DTYPES)] = "float32",
        compressed: bool = False,
        store: Annotated[str, OneOf(STORES)] = "images",
    ) -> None:
        if limit is not None and limit < 0:
            raise UserError(f"callbacks.attribution.limit={limit} must be 0 or more, or null for all images")
        self.explainer = explainer
        self.folder = RunFolder(Path(folder))
        self.target = target
        self.limit = limit
        self.format = AttributionFormat(dtype, compressed, store)
        self.writer = BackgroundWriter(self.folder, WAITING if store == "images" else 2)

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Refuse an unknown target before any image is read; settle what the explainer leaves to the network."""
        parse_targets(self.target, pl_module.facts.classes)
        self.explainer.check_names(pl_module)
        with trainer.precision_plugin.forward_context():
            self.explainer.check_precision(pl_module.device.type)
        self.explainer = self.explainer.resolve(pl_module, pl_module.facts.shape)

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: Classifier,
        outputs: dict[str, Any],
        batch: Batch,
        batch_idx: int,
        *rest: int,
    ) -> None:
        """Explain the batch."""
        outputs["explanations"], outputs["skipped"] = [], list(batch.skipped)
        count = len(batch.images)
        if self.limit is not None and count:
            count = min(count, self.limit - self.recorder.find_position(batch_idx, count))
        if count <= 0:
            return
        with record_cost(pl_module, outputs, "attribution"), trainer.precision_plugin.forward_context():
            explanations, skipped = explain_batch(
                pl_module, batch.first(count), outputs["logits"][:count], self.explainer, self.target
            )
        maps = {explanation.name: explanation.attribution for explanation in explanations}
        files = self.format.list_files(self.recorder.find_number(batch_idx), maps)
        outputs["pending"] = [self.writer.run(*file) for file in files]
        outputs["explanations"] = explanations
        outputs["skipped"] += skipped

    def describe_row(self) -> tuple[dict[str, str | float], dict[str, float]]:
        """What the row by which runs are compared says of the attributions.

        Returns:
            (the explainer, its parameters and the target; no results, which are read from the journal).
        """
        return describe_explainer(self.explainer, self.target), {}

    def record(self) -> dict[str, Any]:
        """Describe the attributions for the record of the run.

        Returns:
            The explainer, the form of the files, images, passes and seconds.
        """
        return {
            "explainer": {
                "name": self.explainer.name,
                "parameters": self.explainer.parameters,
                "target": describe_target(self.target),
                "signed": self.explainer.signed,
                "rectified": self.explainer.rectified,
                "tolerance": getattr(self.explainer, "tolerance", None),
            },
            **self.recorder.totals.describe_attributions(),
            "attribution_form": str(self.format),
        }
