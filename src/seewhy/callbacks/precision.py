"""Explain the first images in float32 too, where a run computes in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from seewhy.callbacks.attribution import Attribution
from seewhy.callbacks.faithfulness import Faithfulness
from seewhy.callbacks.journaling import JournalReader, find_callback
from seewhy.core.files import RunFolder
from seewhy.core.precision import doubt_speed, find_narrow_type, name_type
from seewhy.core.settings import Count, Text, check_when_made
from seewhy.core.types import Batch, Explanation
from seewhy.models.classifier import Classifier
from seewhy.runs.batch_results import record_cost
from seewhy.runs.precision import (
    add_float32,
    describe_precision,
    read_compared,
    summarise_precision,
    warn_of_precision,
    write_precision,
)


@check_when_made("callbacks.{}")
class Precision(JournalReader):
    """Adds to the first explanations what they are in float32; comes after `attribution` and `faithfulness`.

    A run in float32 is left as it is. At the end precision.csv has the pairs, and the record what they amount to.

    Args:
        folder: The run folder.
        images: How many images, from 1, are explained both ways; the first ones of the data set.
    """

    def __init__(self, folder: Text, images: Count = 8) -> None:
        self.folder = RunFolder(Path(folder))
        self.images = images
        self.dtype: torch.dtype | None = None
        self.summary: dict[str, Any] = {}
        self.doubt = ""

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Find the type of the run; ask whether this device is any faster with it."""
        device = pl_module.device.type
        with trainer.precision_plugin.forward_context():
            self.dtype = find_narrow_type(device)
        self.doubt = doubt_speed(device) if self.dtype == torch.bfloat16 else ""

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: Classifier,
        outputs: dict[str, Any],
        batch: Batch,
        batch_idx: int,
        *rest: int,
    ) -> None:
        """Explain and measure what is left of the first images in float32."""
        explanations: list[Explanation] = outputs.get("explanations", [])
        count = len(batch.images)
        if self.dtype is None or not explanations:
            return
        count = min(count, self.images - self.recorder.find_position(batch_idx, count))
        if count <= 0:
            return
        attribution, faithfulness = find_callback(trainer, Attribution), find_callback(trainer, Faithfulness)
        assert attribution is not None, "nothing else explains"
        metrics = {} if faithfulness is None else faithfulness.metrics
        options = {} if faithfulness is None else faithfulness.options
        with record_cost(pl_module, outputs, "precision"):
            run = batch.first(count), outputs["logits"][:count], attribution.explainer, attribution.target
            outputs["explanations"] = add_float32(explanations, pl_module, *run, metrics, **options)

    def write(self, trainer: Trainer, classifier: Classifier) -> None:
        """Write precision.csv."""
        compared = [] if self.dtype is None else read_compared(self.recorder.journal.read_explanations())
        if compared and self.dtype is not None:
            self.summary = summarise_precision(compared, name_type(self.dtype))
            write_precision(self.folder, compared)

    def list_lines(self) -> tuple[list[str], list[str]]:
        """List what the shorter type changes, for the terminal.

        Returns:
            (results, warnings): both empty of a run in float32.
        """
        if not self.summary:
            return [], [self.doubt] if self.doubt else []
        return [describe_precision(self.summary)], [*filter(None, (warn_of_precision(self.summary), self.doubt))]

    def record(self) -> dict[str, Any]:
        """Describe the comparison for the record of the run.

        Returns:
            The summary with its warning; empty of a run in float32.
        """
        if self.dtype is None:
            return {}
        warning = warn_of_precision(self.summary) if self.summary else ""
        texts = {"warning": warning, "slow": self.doubt}
        return {"precision": {"type": name_type(self.dtype)} | self.summary | {k: v for k, v in texts.items() if v}}
