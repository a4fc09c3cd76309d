"""What an examination leaves: a table for the terminal, doctor.csv and doctor.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from seewhy.analyses.doctor.examination import NOTHING, Examination
from seewhy.core.files import RunFolder
from seewhy.runs.console import TextConsole

WORDS = {True: "found", False: "ok", None: "not told"}
COLOURS = {True: "red", False: "green", None: "yellow"}
COLUMNS = ("check", "outcome", "evidence", "setting")


def write_examination(examination: Examination, name: str, folder: Path) -> dict[str, Any]:
    """Print an examination and write its files.

    Args:
        examination: Of a classifier.
        name: Of the classifier.
        folder: The run folder.

    Returns:
        What the run's record says of it.
    """
    rows = [
        {"check": each.name, "outcome": WORDS[each.is_wrong], "evidence": each.evidence, "setting": each.setting}
        for each in examination.checks
    ]
    files = RunFolder(folder)
    files.write_csv("doctor.csv", COLUMNS, rows)
    found = examination.diagnosis
    heading = f"{name} on {examination.images:,} images, {examination.labelled:,} of them with a label"
    lines = [f"# {heading}", "", f"**Diagnosis: {examination.describe()}**", ""]
    lines += ["| check | outcome | evidence | what mends it |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row[key].replace("|", "\\|") for key in COLUMNS) + " |" for row in rows]
    files.write_bytes("doctor.md", "\n".join([*lines, ""]).encode())
    console = TextConsole()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in COLUMNS[:3]:
        table.add_column(title)
    for each, row in zip(examination.checks, rows, strict=True):
        table.add_row(row["check"], f"[{COLOURS[each.is_wrong]}]{row['outcome']}[/]", row["evidence"])
    console.print(heading, table)
    console.print(f"diagnosis: {examination.describe()}", soft_wrap=True)
    return {"diagnosis": NOTHING if found is None else found.name, "images": examination.images}
