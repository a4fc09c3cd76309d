"""The summary of a sweep when its last job has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.markup import escape
from rich.table import Table

from seewhy.core.disclosure import print_error, print_line
from seewhy.core.errors import UserError
from seewhy.runs.stored_json import read_form

PAGED = ("explain", "robustness")
"""Tasks that end with report.html: one for a run, one for all jobs of a sweep."""


class SweepSummary(Callback):
    """Print one line per job of a multirun, write results.csv, the sheets and report.html of all.

    The exit code is 2 where a job failed.

    A method that a network does not allow (status `refused`) is an answer, not a failure.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read every job's run.json below the sweep folder."""
        from seewhy.runs.console import TextConsole  # needs torch, and a sweep is checked without it

        folder = Path(config.hydra.sweep.dir)
        paths = sorted(folder.glob("*/run.json"), key=_job_number)
        records = [_read_job(path) for path in paths]
        console = TextConsole()
        if not records:
            return
        console.print(build_summary_table(records))
        for name, record in zip(find_varied_overrides(records), records, strict=True):
            if "reason" in record:
                console.print(escape(f"{name}: {record['reason']}"), soft_wrap=True)
        _write_results(folder, [path.parent for path in paths], records)
        if config.task in PAGED and config.get("page") and any(record["status"] == "completed" for record in records):
            from seewhy.report.write import attempt_page, write_run_page

            attempt_page(lambda: write_run_page(folder, config.seed))
        console.print(f"sweep folder: {folder}", soft_wrap=True)
        if any(record["status"] == "failed" for record in records):
            raise SystemExit(2)


def _read_job(path: Path) -> dict[str, Any]:
    try:
        return {"overrides": [], "seconds": 0.0, **read_form(path, "record")}
    except (UserError, OSError) as error:
        name = path.parent.name
        return {"task": name, "overrides": [name], "seconds": 0.0, "status": "failed", "reason": str(error)}


def _write_results(folder: Path, jobs: list[Path], records: list[dict[str, Any]]) -> None:
    """Write the table of all jobs and say where it is; one that cannot be written is no reason to fail."""
    from seewhy.core.files import RunFolder
    from seewhy.report.results import write_results

    try:
        path = write_results(RunFolder(folder), list(zip(jobs, records, strict=True)))
    except (UserError, OSError, KeyError) as error:
        print_error(f"no results.csv: {error}")
    else:
        if path is not None:
            print_line(f"table of all jobs: {path}")


def _job_number(path: Path) -> tuple[int, str]:
    number = path.parent.name.split("_")[0]
    return (int(number) if number.isdigit() else 0, path.parent.name)


def find_varied_overrides(records: list[dict[str, Any]]) -> list[str]:
    """Find what tells each job from the others: its overrides that not all jobs share."""
    shared = set.intersection(*(set(record["overrides"]) for record in records)) if len(records) > 1 else set()
    names = [" ".join(text for text in record["overrides"] if text not in shared) for record in records]
    return [name or record["task"] for name, record in zip(names, records, strict=True)]


def build_summary_table(records: list[dict[str, Any]]) -> Table:
    """Build a table with one row per record: what was varied, status, images, passes per image, seconds."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("job", "status", "images", "passes per image", "seconds"):
        table.add_column(title, justify="left" if title in ("job", "status") else "right", overflow="fold")
    colours = {"completed": "green", "failed": "red"}
    for name, record in zip(find_varied_overrides(records), records, strict=True):
        passes = record.get("passes_per_image", {})
        cost = f"{sum(passes.values()):,.0f}" if passes else ""
        status = record["status"]
        cells = [escape(name), f"[{colours.get(status, 'yellow')}]{status}[/]", str(record.get("images_explained", ""))]
        table.add_row(*cells, cost, f"{record['seconds']:.1f}")
    return table
