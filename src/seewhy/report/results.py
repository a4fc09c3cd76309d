"""One table of many runs: every value with the run, the network, the method and the target that it belongs to."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.core.cells import restore_row
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder

NAME = "results.csv"
OF_RUN = ("run", "model", "weights", "seed", "explainer", "parameters")
COLUMNS = (*OF_RUN, "target", "target_policy", "image", "metric", "value")


def write_results(out: RunFolder, runs: Sequence[tuple[Path, Mapping[str, Any]]]) -> Path | None:
    """Write results.csv, row by row: one value of metrics.csv of any run, in the order of the runs.

    Args:
        out: Where it is written.
        runs: (folder, run.json) of each run; those without explanations, or that are not complete, are left out.

    Returns:
        The path of the table; None where no run has values.

    Raises:
        UserError: The two tables of a run list different images.
    """
    used = [(folder, record) for folder, record in runs if _has_values(folder, record)]
    if not used:
        return None
    rows = (row for folder, record in used for row in _read_rows(folder, record, out.path))
    return out.write_csv(NAME, COLUMNS, rows)


def _has_values(folder: Path, record: Mapping[str, Any]) -> bool:
    files = all((folder / name).is_file() for name in ("metrics.csv", "predictions.csv"))
    return record.get("status") == "completed" and "explainer" in record and files


def _read_rows(folder: Path, record: Mapping[str, Any], out: Path) -> Iterator[dict[str, str]]:
    """The values of a run; its two tables list the images in the same order, so one image at a time is in memory."""
    model, explainer = record["model"], record["explainer"]
    values = (os.path.relpath(folder, out), model["name"], model.get("weights", ""), record.get("seed", ""))
    shared = dict(zip(OF_RUN, (*values, explainer["name"], explainer.get("parameters", "")), strict=True))
    with (
        (folder / "metrics.csv").open(newline="", encoding="utf-8") as metrics,
        (folder / "predictions.csv").open(newline="", encoding="utf-8") as predictions,
    ):
        images, image = map(restore_row, csv.DictReader(predictions)), {"image": ""}
        for row in map(restore_row, csv.DictReader(metrics)):
            while image["image"] != row["image"]:
                following = next(images, None)
                if following is None:
                    raise UserError(
                        f"{folder}/predictions.csv lacks {row['image']!r} or has another order than metrics.csv"
                    )
                image = following
            target = {key: image.get(key, "") for key in ("target", "target_policy")}
            names = {key: row[key] for key in ("image", "metric", "value")}
            yield {**shared, "explainer": row["explainer"], **target, **names}
