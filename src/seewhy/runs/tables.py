"""What all finished images of a run add up to.

What a run leaves of its metrics: metrics.json, summary.csv, curves.csv and curves.png.
predictions.csv, metrics.csv and skipped.csv of a journal.
"""

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


def write_tables(folder: RunFolder, journal: Journal) -> None:
    """All three tables, each complete or not at all."""
    seen = (_prediction(one) for entry in journal.entries() for one in entry.images)
    folder.write_csv("predictions.csv", PREDICTIONS, seen)
    folder.write_csv("metrics.csv", METRICS, _numbers(journal))
    skipped = (one._asdict() for entry in journal.entries() for one in entry.skipped)
    folder.write_csv("skipped.csv", SKIPPED, skipped)


def _prediction(seen: ImageResult) -> dict[str, Any]:
    prediction = seen.prediction
    row = {"image": seen.name, "path": seen.path, "label": prediction.label, "predicted": prediction.name}
    row |= {"probability": f"{prediction.probability:.6f}", "correct": _yes_no(prediction.correct)}
    row |= {f"top{rank}": f"{word} {p:.4f}" for rank, (word, p) in enumerate(prediction.top, 1)}
    if seen.explanation is not None:
        target = seen.explanation.target
        row |= {"target": target.name, "target_policy": target.policy}
        row["target_probability"] = f"{target.probability:.6f}"
    return row


def _numbers(journal: Journal) -> Iterator[dict[str, Any]]:
    for made in journal.explanations():
        for metric, value in {**made.facts, **made.metrics}.items():
            yield {"image": made.name, "explainer": made.explainer, "metric": metric, "value": repr(value)}


def _yes_no(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"
