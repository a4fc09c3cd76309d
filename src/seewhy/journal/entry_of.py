"""From what the callbacks made of a batch to its entry in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.nn import functional

from seewhy.classifier import Classifier
from seewhy.explain_batch import predictions
from seewhy.journal.entry import Entry, Seen
from seewhy.types import Batch


def entry_of(classifier: Classifier, outputs: Mapping[str, Any], batch: Batch) -> Entry:
    """`outputs` are those of the test step, with what the callbacks added."""
    logits = outputs["logits"]
    said = predictions(classifier, batch, logits) if len(batch.images) else []
    made = {one.name: one for one in outputs.get("explanations", [])}
    losses = functional.cross_entropy(logits.float(), batch.labels.clamp_min(0), reduction="none").tolist()
    return Entry(
        images=[
            Seen(name, path, prediction, None if label < 0 else loss, made.get(name))
            for name, path, prediction, label, loss in zip(
                batch.names, batch.paths, said, batch.labels.tolist(), losses, strict=True
            )
        ],
        skipped=list(outputs.get("skipped", batch.skipped)),
        curves=outputs.get("curves", []),
        costs=outputs.get("costs", {}),
        left_out=outputs.get("left_out", []),
        stored=outputs.get("stored", {}),
    )
