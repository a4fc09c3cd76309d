"""Run folders: those that a request names, and what one of them holds."""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seewhy.core.cells import restore_cell
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.target_choice import name_image
from seewhy.runs import attribution_files
from seewhy.runs.journal import Journal
from seewhy.runs.stored_json import read_form
from seewhy.statistics.schema import MetricFact, read_metric_facts

MEANS = ("mean", "low", "high")
"""Columns of numbers of robustness_summary.csv."""
NUMBERS = {name: ["", "nan"] for name in (*MEANS, "logit", "probability")}
"""Columns of numbers, and the texts in them that mean no value."""
ARCHITECTURE = re.compile(r"\+*model(=|\.(name|size|build|architecture|arguments)\b)")
"""Settings that choose an architecture."""


@dataclass(frozen=True)
class Run:
    """The files of a completed run.

    Args:
        folder: Where they lie.
        record: run.json.
        metrics: metrics.csv with the columns image, explainer, metric and value, and parameters, target and target_policy.
        predictions: predictions.csv of the images that were explained, by the name of the explanation; all columns are
            text. The images are sorted, their targets in the order of the run.
        facts: metrics.json.
    """

    folder: Path
    record: dict[str, Any]
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    facts: dict[str, MetricFact]

    @property
    def explainer(self) -> str:
        """The name of the method."""
        return str(self.record["explainer"]["name"])

    @property
    def images(self) -> pd.DataFrame:
        """The predictions with one row for each image, by its name, however many targets it has."""
        names = self.predictions.index.map(name_image)
        return self.predictions.set_axis(names, axis=0)[~names.duplicated()]

    def count_answers(self) -> tuple[int, int, list[str]]:
        """Count right answers.

        Returns:
            (right answers, images whose label is a class of the network, labels of the others that have one); no label
            counts where the network gives no probabilities, of which nothing is right or wrong.
        """
        images = self.images
        answers = [answer for answer in images["correct"] if answer in ("yes", "no")]
        rows = zip(
            images["label"], images["correct"], pd.to_numeric(images["probability"], errors="coerce"), strict=True
        )
        others = [str(label) for label, answer, share in rows if label and answer not in ("yes", "no") and share >= 0]
        return answers.count("yes"), len(answers), others

    @property
    def model(self) -> tuple[str, str]:
        """Name and hash of the weights."""
        return str(self.record["model"]["name"]), str(self.record["model"]["weights_sha256"])


def sort_explanations(table: pd.DataFrame) -> pd.DataFrame:
    """Sort explanations by their images; the targets of an image stay in their order.

    Args:
        table: By the name of the explanation.

    Returns:
        The sorted table.
    """
    return table.sort_index(key=lambda names: names.map(name_image), kind="stable")


def read_run(folder: Path, record: dict[str, Any]) -> Run:
    """Read a run.

    Args:
        folder: Of the run.
        record: Its run.json.

    Returns:
        The run.

    Raises:
        UserError: If one of its files is missing or is not what a run writes.
    """
    try:
        metrics = pd.read_csv(
            folder / "metrics.csv",
            dtype=dict.fromkeys(("image", "explainer", "parameters", "target", "target_policy", "metric"), str),
            keep_default_na=False,
            na_values={"value": ["", "nan"]},
        )
        predictions = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False)
        metrics, predictions = restore_table(metrics), restore_table(predictions).set_index("image")
        explained = sort_explanations(predictions[predictions["target"] != ""])
        _check_repeats(explained.index.to_frame(), folder / "predictions.csv")
        _check_repeats(metrics[["image", "explainer", "metric"]], folder / "metrics.csv")
        run = Run(folder, record, metrics, explained, read_metric_facts(folder))
        _ = run.explainer, run.model
        _check_numbers(metrics, ("value",), folder / "metrics.csv")
        _check_numbers(predictions, ("probability", "target_probability"), folder / "predictions.csv")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing; is {folder} a whole run folder?") from error
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{folder} does not hold what a run writes: {_shorten_reason(error)}") from error
    return run


def _check_repeats(names: pd.DataFrame, path: Path) -> None:
    """UserError where a row is there twice."""
    repeated = names[names.duplicated()]
    if len(repeated):
        first = ", ".join(map(str, repeated.iloc[0]))
        raise UserError(f"{path} has two rows of {first[:80]!a}; the table was edited or damaged")


def _check_numbers(table: pd.DataFrame, columns: Sequence[str], path: Path) -> None:
    """UserError where a column is missing or holds text that is no number; a cell may be empty."""
    for column in columns:
        cells = table[column]
        wrong = cells[pd.to_numeric(cells, errors="coerce").isna() & ~cells.isna() & ~cells.isin(["", "nan"])]
        if len(wrong):
            raise UserError(
                f"{path}: {column} {str(wrong.iloc[0])[:40]!a} is no number; the table was edited or damaged"
            )


def read_record(path: Path) -> dict[str, Any]:
    """Read a run.json.

    Args:
        path: Of the file.

    Returns:
        Its content.

    Raises:
        UserError: If it is not the record of a run.
    """
    try:
        return read_form(path, "record")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; is {path.parent} a whole run folder?") from None


class UnusedRun(NamedTuple):
    """A run folder that takes no part in the comparison, and why.

    Attributes:
        folder: Of the run.
        status: Of its record.
        reason: Why it cannot be compared.
    """

    folder: str
    status: str
    reason: str


def find_runs(patterns: Iterable[str]) -> tuple[list[Run], list[UnusedRun]]:
    """Find the runs in and below folders; reports are passed over.

    Args:
        patterns: Folders or glob patterns.

    Returns:
        (completed runs that explained images, the other runs), sorted by folder.

    Raises:
        UserError: If a pattern holds no run, or no run can be used.
    """
    patterns = list(patterns)
    if not patterns:
        raise UserError("runs is not set: give runs=<folder>, a pattern in quotes, or 'runs=[one,two]'")
    paths = sorted({path for pattern in patterns for path in find_records(pattern)})
    runs: list[Run] = []
    unused: list[UnusedRun] = []
    for path in paths:
        record = read_record(path)
        if record["task"] == "report":
            continue
        reason = _explain_refusal(record)
        if reason:
            unused.append(UnusedRun(str(path.parent), str(record["status"]), reason))
        else:
            runs.append(read_run(path.parent, record))
    if not runs:
        others = "; ".join(f"{run.folder}: {run.status}" for run in unused[:3]) or "none at all"
        raise UserError(f"no completed run with explanations is in {', '.join(patterns)} (found: {others})")
    return runs, unused


def find_records(pattern: str) -> list[Path]:
    """Find every run.json in and below a folder or the matches of a glob pattern.

    Args:
        pattern: A folder or a pattern.

    Returns:
        Paths, relative to the working folder where they lie below it.

    Raises:
        UserError: If there is none.
    """
    folders = [Path(pattern)] if Path(pattern).is_dir() else [Path(match) for match in sorted(glob.glob(pattern))]
    records = {record.resolve() for folder in folders for record in folder.rglob("run.json")}
    if not records:
        raise UserError(f"runs={pattern} holds no run.json; give a run folder, a sweep folder or a pattern of them")
    return [_shorten(record) for record in sorted(records)]


def _shorten(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _explain_refusal(record: dict[str, Any]) -> str:
    """Why a run cannot be compared; empty where it can."""
    if record["status"] != "completed":
        return str(record.get("reason", f"its status is {record['status']}"))
    if "explainer" not in record or not record.get("images_explained"):
        return "it explained no image"
    return ""


def group_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group the runs that explained the same images, true classes and target policy.

    Args:
        runs: Of any models.

    Returns:
        The groups by a title: their models, with the number of images and the targets where models have several groups.
    """
    groups: dict[tuple[object, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: str(run.folder)):
        labels = tuple(zip(run.images.index, run.images["label"], strict=True))
        groups.setdefault((run.record["explainer"].get("target"), labels), []).append(run)
    details: list[Callable[[list[Run]], str]] = [
        lambda group: " and ".join(sorted({run.model[0] for run in group})),
        lambda group: f"{len(group[0].images)} images",
        lambda group: f"target {group[0].record['explainer'].get('target')}",
        lambda group: group[0].folder.name,
    ]
    titles = [""] * len(groups)
    for detail in details:
        if len(set(titles)) < len(titles) or titles == [""]:
            titles = [
                ", ".join(filter(None, (title, detail(group))))
                for title, group in zip(titles, groups.values(), strict=True)
            ]
    return dict(zip(titles, groups.values(), strict=True))


def restore_table(table: pd.DataFrame) -> pd.DataFrame:
    """Restore the cells of a table that were quoted for spreadsheets.

    Args:
        table: As pandas reads it.

    Returns:
        The table with its text columns as they were before they were written.
    """
    return table.assign(**{str(name): table[name].map(restore_cell) for name in table.select_dtypes(exclude="number")})


def read_curves(folder: Path) -> pd.DataFrame | None:
    """Read curves.csv: image, explainer, curve, share, logit, probability; None where there is none."""
    return _read(
        folder / "curves.csv", {"image": str, "explainer": str, "curve": str}, ("share", "logit", "probability")
    )


def read_robustness(folder: Path) -> pd.DataFrame | None:
    """Read robustness_summary.csv with the levels as text; None where there is none."""
    types = {"corruption": str, "level": str, "quantity": str, "note": str}
    return _read(folder / "robustness_summary.csv", types, MEANS)


def read_robustness_images(folder: Path) -> pd.DataFrame | None:
    """Read robustness.csv, a row for each image, corruption and level; None where there is none."""
    types = {"image": str, "corruption": str, "flip": str}
    return _read(folder / "robustness.csv", types, ("level",))


def read_skipped(folder: Path) -> list[tuple[str, str]]:
    """Read (path, reason) of the images that could not be used."""
    table = _read(folder / "skipped.csv", {"path": str, "reason": str})
    return [] if table is None else list(zip(table["path"].map(str), table["reason"].map(str), strict=True))


def read_warnings(folder: Path) -> dict[str, str]:
    """Read what the figures warn of: {image: warnings}, from the journal; empty where there is none."""
    if not (folder / "journal").is_dir():
        return {}
    read = Journal(folder).read_explanations()
    return {explanation.name: "; ".join(explanation.warnings) for explanation in read if explanation.warnings}


def read_map(folder: Path, image: str) -> NDArray[np.float32] | None:
    """Read the map of an image, float32 [height, width], however it is stored; None where there is none."""
    try:
        return attribution_files.read_attribution(folder, image).numpy()
    except FileNotFoundError:
        return None


def read_preview(folder: Path, image: str) -> bytes | None:
    """Read images/<image>.webp, which all targets of an image share; None where there is none."""
    return _read_file(folder, f"images/{name_image(image)}.webp")


def read_figures(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Read {name: bytes} of those pictures that are there."""
    contents = {name: _read_file(folder, name) for name in names}
    return {name: content for name, content in contents.items() if content is not None}


def _read_file(folder: Path, name: str) -> bytes | None:
    """The bytes of a file of a run; None where there is none, or a link."""
    try:
        with RunFolder(folder).open(name) as file:
            return file.read()
    except FileNotFoundError:
        return None


def list_sheets(folder: Path) -> list[str]:
    """List the sheets of a robustness run, plain ones first, by level."""
    return sorted((f"robustness/{path.name}" for path in folder.glob("robustness/level_*.png")), key=_sheet_order)


def _sheet_order(name: str) -> tuple[str, int]:
    level, _, explainer = name.removeprefix("robustness/level_").removesuffix(".png").partition("_")
    return explainer, int(level) if level.isdigit() else 0


def _read(path: Path, types: dict[str, Any], numbers: Sequence[str] = ()) -> pd.DataFrame | None:
    """A table of a run; None where there is none."""
    if not path.is_file():
        return None
    try:
        table = restore_table(pd.read_csv(path, dtype=types, keep_default_na=False, na_values=NUMBERS))
        _check_numbers(table, numbers, path)
        _ = table[list(types)]
        return table
    except (KeyError, ValueError, OverflowError) as error:
        raise UserError(f"{path} does not hold what a run writes: {_shorten_reason(error)}") from None


def _shorten_reason(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def find_model_settings(overrides: Sequence[str], network: str) -> str:
    """Find the settings that choose an architecture, without weights and what else belongs to one run.

    >>> find_model_settings(["model=timm", "model.name=resnet18", "seed=1", "model.weights=own.pt"], "resnet18")
    'model=timm model.name=resnet18'

    Args:
        overrides: Of a command line.
        network: The name of the architecture.

    Returns:
        They, for another command line; `model=` and the name where none was given.
    """
    chosen = [text for text in overrides if ARCHITECTURE.match(text)]
    return shlex.join(chosen) if any(text.startswith("model=") for text in chosen) else f"model={network}"
