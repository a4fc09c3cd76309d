"""The tables that every run leaves: predictions.csv, metrics.csv and skipped.csv."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seewhy.core.files import RunFolder
from seewhy.runs.batch_results import ImageResult
from seewhy.runs.journal import Journal

PREDICTIONS: tuple[str, ...] = (
    *("image", "path", "label", "predicted", "probability", "correct"),
    *("target", "target_probability", "target_policy"),
    *(f"top{rank}" for rank in range(1, 6)),
)
METRICS = ("image", "explainer", "metric", "value")
SKIPPED = ("path", "reason")
YES_NO = {None: "", True: "yes", False: "no"}


def write_tables(folder: RunFolder, journal: Journal) -> None:
    """Write all three tables, each whole or not at all.

    Args:
        folder: Where they are written.
        journal: What they are made from, one batch in memory at a time.
    """
    predictions = (_describe_image(image) for results in journal.read_batches() for image in results.images)
    folder.write_csv("predictions.csv", PREDICTIONS, predictions)
    folder.write_csv("metrics.csv", METRICS, _list_values(journal))
    skipped = (entry._asdict() for results in journal.read_batches() for entry in results.skipped)
    folder.write_csv("skipped.csv", SKIPPED, skipped)


def _describe_image(image: ImageResult) -> dict[str, Any]:
    prediction = image.prediction
    row = {"image": image.name, "path": image.path, "label": prediction.label, "predicted": prediction.name}
    row |= {"probability": f"{prediction.probability:.6f}", "correct": YES_NO[prediction.correct]}
    row |= {f"top{rank}": f"{name} {probability:.4f}" for rank, (name, probability) in enumerate(prediction.top, 1)}
    if image.explanation is not None:
        target = image.explanation.target
        row |= {"target": target.name, "target_policy": target.policy}
        row["target_probability"] = f"{target.probability:.6f}"
    return row


def _list_values(journal: Journal) -> Iterator[dict[str, Any]]:
    for explanation in journal.read_explanations():
        for metric, value in {**explanation.facts, **explanation.metrics}.items():
            names = {"image": explanation.name, "explainer": explanation.explainer, "metric": metric}
            yield names | {"value": repr(value)}
