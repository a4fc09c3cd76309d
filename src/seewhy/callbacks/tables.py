"""Predictions, numbers and skipped images as CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from seewhy.classifier import Classifier
from seewhy.explain_batch import predictions
from seewhy.run_folder import RunFolder
from seewhy.types import Batch

PREDICTIONS: tuple[str, ...] = (
    *("image", "path", "label", "predicted", "probability", "correct"),
    *("target", "target_probability", "target_policy"),
    *(f"top{rank}" for rank in range(1, 6)),
)
METRICS = ("image", "explainer", "metric", "value")
SKIPPED = ("path", "reason")


class Tables(Callback):
    """Writes predictions.csv, metrics.csv (one number per row) and skipped.csv when the loop ends, however it ends."""

    def __init__(self, folder: str) -> None:
        self.folder = RunFolder(Path(folder))
        self.predictions: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.skipped: list[dict[str, Any]] = []

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *place: int
    ) -> None:
        """Collect the rows of one batch."""
        explanations = {made.name: made for made in outputs.get("explanations", [])}
        said = predictions(pl_module, batch, outputs["logits"]) if len(batch.images) else []
        for name, path, prediction in zip(batch.names, batch.paths, said, strict=True):
            row = {"image": name, "path": path, "label": prediction.label, "predicted": prediction.name}
            row |= {"probability": f"{prediction.probability:.6f}", "correct": _yes_no(prediction.correct)}
            row |= {f"top{rank}": f"{word} {p:.4f}" for rank, (word, p) in enumerate(prediction.top, 1)}
            if name in explanations:
                target = explanations[name].target
                row |= {"target": target.name, "target_policy": target.policy}
                row["target_probability"] = f"{target.probability:.6f}"
            self.predictions.append(row)
        for made in explanations.values():
            self.metrics += [
                {"image": made.name, "explainer": made.explainer, "metric": metric, "value": repr(value)}
                for metric, value in {**made.facts, **made.metrics}.items()
            ]
        self.skipped += [one._asdict() for one in outputs.get("skipped", batch.skipped)]

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Write the tables."""
        self.write()

    def on_exception(self, trainer: Trainer, pl_module: Classifier, exception: BaseException) -> None:  # type: ignore[override]
        """Keep what was computed before the error."""
        self.write()

    def write(self) -> None:
        """All three tables, complete or not at all."""
        self.folder.write_csv("predictions.csv", PREDICTIONS, self.predictions)
        self.folder.write_csv("metrics.csv", METRICS, self.metrics)
        self.folder.write_csv("skipped.csv", SKIPPED, self.skipped)

    def record(self) -> dict[str, Any]:
        """What the run's record says of the images."""
        return {"images": len(self.predictions), "images_skipped": len(self.skipped)}


def _yes_no(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"
