"""The summary of a sweep when its last job has ended."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.markup import escape
from rich.table import Table

from seewhy.cli.program import list_overrides
from seewhy.core.disclosure import mask_secrets, print_error, print_line
from seewhy.core.errors import UserError
from seewhy.core.signals import end_idle_workers_with_parent
from seewhy.runs.stored_json import read_form

REFUSED_JOBS = "refused_jobs.txt"
"""What a sweep notes of jobs that may not write to their folder, which holds something else."""
PAGED = ("explain", "robustness")
"""Tasks that end with report.html: one for a run, one for all jobs of a sweep."""


class SweepSummary(Callback):
    """Print how far a multirun is, at its end one line per job, and write results.csv, the sheets and report.html of all.

    The exit code is 2 where a job failed.

    A method that a network does not allow (status `refused`) is an answer, not a failure.
    """

    def __init__(self) -> None:
        self.ended: set[Path] = set()  # records that need not be read again

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget which jobs an earlier attempt in the same folder refused, and let the workers end with this process."""
        self.started, self.jobs = time.time(), len(list_jobs(config))
        (Path(config.hydra.sweep.dir) / REFUSED_JOBS).unlink(missing_ok=True)
        if "joblib" in str(config.hydra.launcher.get("_target_")):
            end_idle_workers_with_parent()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Print how many jobs have ended, and how long the others take if they are like those."""
        if config.hydra.mode != RunMode.MULTIRUN or not self.jobs:
            return
        for path in Path(config.hydra.sweep.dir).glob("*/run.json"):
            if path not in self.ended and path.stat().st_mtime > self.started:
                self.ended |= {path} if _read_job(path)["status"] != "running" else set()
        ended = len(self.ended)
        if 0 < ended < self.jobs:
            taken = time.time() - self.started
            rest = _write_duration(taken / ended * (self.jobs - ended))
            done = f"{ended} of {self.jobs} jobs have ended after {_write_duration(taken)}"
            print_line(f"{done}; about {rest} more if the others are like these")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read every job's run.json below the sweep folder."""
        from seewhy.runs.console import TextConsole  # needs torch, and a sweep is checked without it

        folder = Path(config.hydra.sweep.dir)
        paths = sorted(folder.glob("*/run.json"), key=_job_number)
        records = [_read_job(path) for path in paths]
        console = TextConsole()
        refused = _read_refused_jobs(folder)
        if records:
            _summarise(config, folder, paths, records, console)
        for line in refused:
            console.print(escape(f"not run: {line}"), soft_wrap=True)
        if refused or any(record["status"] == "failed" for record in records):
            raise SystemExit(2)


def list_jobs(config: DictConfig) -> list[list[str]]:
    """List the jobs that Hydra's own sweeper makes of a command.

    Args:
        config: The composed config of the sweep, with Hydra's own part.

    Returns:
        The overrides of each job; none where another sweeper chooses them as it goes, or where Hydra will refuse them.
    """
    if config.hydra.sweeper.get("_target_") != f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}":
        return []
    params: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    given = [f"{key}={value}" for key, value in (params.get("params") or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    try:
        overrides = parser.parse_overrides([*given, *list_overrides(config.hydra)])
        return [list(job) for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]
    except HydraException:
        return []


def _write_duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _summarise(
    config: DictConfig, folder: Path, paths: list[Path], records: list[dict[str, Any]], console: Any
) -> None:
    """Print the table of the jobs and write what joins them."""
    console.print(build_summary_table(records))
    for name, record in zip(find_varied_overrides(records), records, strict=True):
        if "reason" in record:
            console.print(escape(f"{name}: {record['reason']}"), soft_wrap=True)
    _write_results(folder, [path.parent for path in paths], records)
    if config.task in PAGED and config.get("page") and any(record["status"] == "completed" for record in records):
        from seewhy.report.write import attempt_page, write_run_page

        attempt_page(lambda: write_run_page(folder, config.seed, config.get("certificate"), console))
    console.print(f"sweep folder: {folder}", soft_wrap=True)


def note_refused_job(hydra: Any, reason: str) -> None:
    """Note a job of a sweep that may not write to its folder, for the end of the sweep.

    Args:
        hydra: Hydra's part of its composed config.
        reason: Why.
    """
    with contextlib.suppress(OSError), (Path(hydra.sweep.dir) / REFUSED_JOBS).open("a", encoding="utf-8") as file:
        file.write(f"{hydra.sweep.subdir}: {mask_secrets(' '.join(reason.split()))}\n")


def _read_refused_jobs(folder: Path) -> list[str]:
    path = folder / REFUSED_JOBS
    return path.read_text("utf-8", "replace").splitlines() if path.is_file() else []


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
