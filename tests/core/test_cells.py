"""Cells that a spreadsheet would run are quoted where tables are written, and restored where they are read."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
from hypothesis import given, strategies

from seewhy.core.cells import quote_cell, restore_cell, restore_row
from seewhy.core.files import RunFolder
from seewhy.report.runs import restore_table

NAMES = ["=HYPERLINK(1)", "+1+cmd", "-2+3", "@SUM(A1)", "\tx", "'=1", "''=1", "'quoted'", "cat", "-0.5", "1e5", "", "-"]


@given(strategies.text(max_size=12))
def test_every_text_is_restored(text: str) -> None:
    assert restore_cell(quote_cell(text)) == text


def test_text_alone_is_quoted_and_no_formula_is_left(tmp_path: Path) -> None:
    assert [quote_cell(value) for value in (-0.5, -1, None, "-0.5", "-inf", "5")] == [
        -0.5,
        -1,
        None,
        "-0.5",
        "-inf",
        "5",
    ]
    RunFolder(tmp_path).write_csv("t.csv", ("image", "value"), [{"image": name, "value": -0.5} for name in NAMES])
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        cell = row["image"]
        assert not cell.startswith(("=", "+", "@", "\t")) and (not cell.startswith("-") or cell in ("-0.5",))
        assert row["value"] == "-0.5"
    assert [restore_row(row)["image"] for row in rows] == NAMES
    table = pd.read_csv(tmp_path / "t.csv", dtype={"image": str}, keep_default_na=False)
    assert restore_table(table)["image"].tolist() == NAMES
    assert restore_table(table)["value"].tolist() == [-0.5] * len(NAMES)
