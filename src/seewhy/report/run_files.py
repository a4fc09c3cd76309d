"""One run folder, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from seewhy.errors import UserError
from seewhy.metric_facts import MetricFact, read_metric_facts


@dataclass(frozen=True)
class Run:
    """What a completed run left behind."""

    folder: Path
    record: dict[str, Any]
    """run.json"""
    metrics: pd.DataFrame
    """metrics.csv: image, explainer, metric, value"""
    predictions: pd.DataFrame
    """predictions.csv of the images that were explained, by image name; all columns are text"""
    facts: dict[str, MetricFact]
    """metrics.json"""

    @property
    def explainer(self) -> str:
        """The name of the method."""
        return str(self.record["explainer"]["name"])

    @property
    def model(self) -> tuple[str, str]:
        """Name and hash of the weights."""
        return str(self.record["model"]["name"]), str(self.record["model"]["weights_sha256"])


def read_run(folder: Path, record: dict[str, Any]) -> Run:
    """The run in `folder`. Raises UserError where one of its files is missing or is not what a run writes."""
    try:
        metrics = pd.read_csv(
            folder / "metrics.csv",
            dtype={"image": str, "explainer": str, "metric": str},
            keep_default_na=False,
            na_values={"value": ["", "nan"]},
        )
        predictions = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False).set_index("image")
        explained = predictions[predictions["target"] != ""].sort_index()
        run = Run(folder, record, metrics, explained, read_metric_facts(folder))
        _ = run.explainer, run.model
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing; is {folder} a whole run folder?") from error
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{folder} does not hold what a run writes: {error!r}") from error
    return run


def read_record(path: Path) -> dict[str, Any]:
    """The content of a run.json. Raises UserError where it is not one."""
    try:
        record = json.loads(path.read_text())
        return {"status": record["status"], "task": record["task"], **record}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the record of a run: {error!r}") from error
