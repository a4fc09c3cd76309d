"""The run folders that a request names."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from seewhy.errors import UserError
from seewhy.report.run_files import Run, read_record, read_run


class Unused(NamedTuple):
    """A run folder that takes no part in the comparison, and why."""

    folder: str
    status: str
    reason: str


def find_runs(places: Iterable[str]) -> tuple[list[Run], list[Unused]]:
    """(completed runs that explained images, the other runs) in and below folders or glob patterns, sorted by folder.

    Reports are passed over. Raises UserError where a place holds no run, or no run can be used.
    """
    asked = list(places)
    if not asked:
        raise UserError("runs is not set: give runs=<folder>, a pattern in quotes, or 'runs=[one,two]'")
    paths = sorted({path for place in asked for path in records_in(place)})
    runs: list[Run] = []
    unused: list[Unused] = []
    for path in paths:
        record = read_record(path)
        if record["task"] == "report":
            continue
        reason = _why_not(record)
        if reason:
            unused.append(Unused(str(path.parent), str(record["status"]), reason))
        else:
            runs.append(read_run(path.parent, record))
    if not runs:
        found = "; ".join(f"{one.folder}: {one.status}" for one in unused[:3]) or "none at all"
        raise UserError(f"no completed run with explanations is in {', '.join(asked)} (found: {found})")
    return runs, unused


def records_in(place: str) -> list[Path]:
    """Every run.json in and below a folder or the matches of a pattern. Raises UserError where there is none."""
    folders = [Path(place)] if Path(place).is_dir() else [Path(match) for match in sorted(glob.glob(place))]
    records = {record.resolve() for folder in folders for record in folder.rglob("run.json")}
    if not records:
        raise UserError(f"runs={place} holds no run.json; give a run folder, a sweep folder or a pattern of them")
    return [_short(record) for record in sorted(records)]


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _why_not(record: dict[str, Any]) -> str:
    """Why a run cannot be compared; empty where it can."""
    if record["status"] != "completed":
        return str(record.get("reason", f"its status is {record['status']}"))
    if "explainer" not in record or not record.get("images_explained"):
        return "it explained no image"
    return ""
