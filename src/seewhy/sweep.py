"""What a sweep says when its last job is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table


class SweepSummary(Callback):
    """Prints one line per job of a multirun and ends with exit code 2 where a job failed.

    A method that a network does not allow (status `refused`) is an answer, not a failure.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read every job's run.json below the sweep folder."""
        folder = Path(config.hydra.sweep.dir)
        records = [json.loads(path.read_text()) for path in sorted(folder.glob("*/run.json"), key=_job_number)]
        console = Console(highlight=False)
        console.print(summary_table(records))
        console.print(f"sweep folder: {folder}", soft_wrap=True)
        if any(record["status"] == "failed" for record in records):
            raise SystemExit(2)


def _job_number(path: Path) -> tuple[int, str]:
    number = path.parent.name.split("_")[0]
    return (int(number) if number.isdigit() else 0, path.parent.name)


def summary_table(records: list[dict[str, Any]]) -> Table:
    """One row per record: what was varied, status, images, passes per image, seconds, and why a job failed."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("job", "status", "images", "passes per image", "seconds", ""):
        table.add_column(title, justify="right" if title in ("images", "passes per image", "seconds") else "left")
    colours = {"completed": "green", "failed": "red"}
    for record in records:
        passes = record.get("passes_per_image", {})
        cost = f"{sum(passes.values()):,.0f}" if passes else ""
        status = record["status"]
        reason = escape(str(record.get("reason", "")).split("\n")[0])
        cells = [" ".join(record["overrides"]) or record["task"], f"[{colours.get(status, 'yellow')}]{status}[/]"]
        table.add_row(*cells, str(record.get("images_explained", "")), cost, f"{record['seconds']:.1f}", reason)
    return table
