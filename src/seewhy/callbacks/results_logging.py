"""Pictures and numbers of the explanations for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from seewhy.callbacks.attribution import Attribution
from seewhy.callbacks.faithfulness import Faithfulness
from seewhy.callbacks.journal_recorder import JournalRecorder, find_recorder
from seewhy.models.classifier import Classifier
from seewhy.runs.tensorboard import log_picture

if TYPE_CHECKING:
    from seewhy.runs.tensorboard import Value

Kind = TypeVar("Kind", bound=Callback)


class ResultsLogging(Callback):
    """Logs, when the loop has ended, numbers, curves, pictures, the config, and one row of the HPARAMS tab.

    Steps: per_image/* the place of the image in the run; curves/* the percentage of the pixels; everything else the
    training step of the network (0 for a loaded one). Pictures are those that the callback `figures` wrote: at most
    `maximum` panels. Comes after the callbacks whose numbers it logs.
    """

    journaling: JournalRecorder

    def __init__(self, folder: str, maximum: int = 16) -> None:
        self.folder = Path(folder)
        self.maximum = maximum

    def setup(self, trainer: Trainer, pl_module: Classifier, stage: str) -> None:  # type: ignore[override]
        """Join the journal."""
        self.journaling = find_recorder(trainer, self.folder)

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Log all of it."""
        if not trainer.is_global_zero or not any(isinstance(one, TensorBoardLogger) for one in trainer.loggers):
            return
        from seewhy.runs.tensorboard import curve_points, log_hyperparameters

        step, names = trainer.global_step, list[str]()
        values: dict[str, list[float]] = {}
        for place, made in enumerate(self.journaling.journal.explanations()):
            for metric, value in {**made.facts, **made.metrics}.items():
                self._write(trainer, "add_scalar", f"per_image/{metric}", value, place)
                values.setdefault(metric, []).append(value)
            names += [made.name] if place < self.maximum else []
        for tag, percent, value in curve_points(self.journaling.journal):
            self._write(trainer, "add_scalar", tag, value, percent)
        panels = {f"explanation/{name}": f"figures/{name}.png" for name in names}
        for tag, name in {"sheet": "sheet.png", "curves": "curves.png", **panels}.items():
            if (self.folder / name).is_file():
                log_picture(trainer.loggers, tag, (self.folder / name).read_bytes(), step)
        config = self.folder / ".hydra" / "config.yaml"
        if config.is_file():
            self._write(trainer, "add_text", "config", f"```yaml\n{config.read_text()}\n```", step)
        means = {f"mean/{name}": _mean(column) for name, column in values.items()}
        log_hyperparameters(trainer.loggers, *_row(trainer, pl_module, means), step)

    def _write(self, trainer: Trainer, method: str, *values: Any) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                getattr(logger.experiment, method)(*values)


def _row(
    trainer: Trainer, classifier: Classifier, means: dict[str, float]
) -> tuple[dict[str, Value], dict[str, float]]:
    """(what was chosen, what came out)."""
    from seewhy.runs.tensorboard import explainer_parameters

    explaining, measuring = _callback(trainer, Attribution), _callback(trainer, Faithfulness)
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    chosen: dict[str, Value] = {"model": classifier.name, "weights": classifier.origin, "data": type(data).__name__}
    found = dict(means)
    found |= {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
    if explaining is not None:
        chosen |= {"target": str(explaining.target), **explainer_parameters(explaining.explainer)}
        record = explaining.record()
        found |= {f"passes_per_image/{way}": passes for way, passes in record["passes_per_image"].items()}
        found |= {"seconds/attribution": record["attribution_seconds"], "images": record["images_explained"]}
    if measuring is not None and measuring.metrics:
        found["seconds/metrics"] = measuring.record()["metric_seconds"]
    return chosen, found


def _callback(trainer: Trainer, kind: type[Kind]) -> Kind | None:
    return next((part for part in trainer.callbacks if isinstance(part, kind)), None)  # type: ignore[attr-defined]


def _mean(values: list[float]) -> float:
    """Over the images for which there is a value; NaN where there is none."""
    known = np.array(values)[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
