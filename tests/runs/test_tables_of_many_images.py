"""Tables of very many images: the journal is read once for them, and one batch of it is in memory at a time."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from journals import PLAN, write_journal
from seewhy.plots.curves import GRID, draw_curves, resample_curves
from seewhy.runs import logged_results, scores, stored_json
from seewhy.runs.batch_results import BatchResults, Curve
from seewhy.runs.journal import Journal
from seewhy.runs.scores import tabulate_curves, write_curves
from seewhy.runs.tables import write_tables

SHARES = (0.0, 0.25, 1.0)


def curve(image: str, name: str, start: float, shares: Sequence[float] = SHARES) -> Curve:
    falling = [start * (1 - share) for share in shares]
    return Curve(image, "saliency", name, list(shares), [4 * value for value in falling], falling)


def write_curves_of_batches(folder: Path, batches: Sequence[Sequence[Curve]]) -> Journal:
    journal = Journal(folder)
    journal.begin({**PLAN, "batches": len(batches)})
    for number, curves in enumerate(batches):
        journal.write(number, BatchResults([], [], list(curves)))
    return journal


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the batches that were read."""
    found: list[int] = []
    read = Journal.read
    monkeypatch.setattr(Journal, "read", lambda journal, number: found.append(number) or read(journal, number))
    return found


def test_all_tables_are_written_in_one_reading(tmp_path: Path, reads: list[int]) -> None:
    journal = write_journal(tmp_path)
    write_tables(journal.folder, journal)
    assert reads == [0, 1, 2]
    reads.clear()
    write_curves(journal.folder, journal, "a heading")
    assert reads == [0, 1, 2]
    assert {path.name for path in tmp_path.glob("*.csv")} == {
        "predictions.csv",
        "metrics.csv",
        "skipped.csv",
        "curves.csv",
    }


def test_the_figure_counts_measured_images_also_of_batches_without_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, headings = write_journal(tmp_path), []
    explained = {each.image_name for each in journal.read_explanations() if each.metrics}
    curves = [results.curves for results in journal.read_batches()]
    assert [bool(each) for each in curves] == [True, False, False]
    assert len(explained) > len({each.image for each in curves[0]})
    for number in (0, 2):  # the curves are in the last batch
        results = journal.read(number)
        assert results is not None
        journal.write(number, replace(results, curves=curves[0] if number else []))
    draw = draw_curves
    monkeypatch.setattr(
        "seewhy.plots.curves.draw_curves", lambda table, words, seed: headings.append(words) or draw(table, words, seed)
    )
    write_curves(journal.folder, journal, "a heading")
    assert headings == [f"a heading, {len(explained)} images"]


def test_a_row_is_a_point_and_names_are_quoted(tmp_path: Path) -> None:
    odd = Curve("=a,b", "saliency", "-x", [0.0, 1.0], [-1.5, 1 / 3], [math.nan, 1e-9])
    journal = write_curves_of_batches(tmp_path, [[], [odd], [curve("c", "deletion/black", 1)]])
    write_curves(journal.folder, journal, "a heading")
    with (tmp_path / "curves.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[:3] == [
        ["image", "explainer", "curve", "share", "logit", "probability"],
        ["'=a,b", "saliency", "'-x", "0", "-1.5", ""],
        ["'=a,b", "saliency", "'-x", "1", "0.3333333", "1e-09"],
    ]
    assert [row[0] for row in rows[3:]] == ["c"] * 3


def test_averages_are_those_of_all_images_from_one_batch_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of different size; two targets of an image are one image; a curve may end before the others."""
    batches = [
        [curve("a", "deletion/black", 1.0), curve("a", "insertion/black", 0.5)],
        [
            curve("b @runner_up", "deletion/black", 0.2),
            curve("b", "deletion/black", 0.4),
            curve("c", "deletion/black", 0.9),
        ],
        [curve("d", "deletion/black", 0.7, (0.0, 0.5))],
    ]
    journal, most = write_curves_of_batches(tmp_path, batches), 0

    def tabulate(curves: Sequence[Curve]) -> pd.DataFrame:
        nonlocal most
        most = max(most, len(curves))
        return tabulate_curves(curves)

    monkeypatch.setattr(scores, "tabulate_curves", tabulate)
    found = logged_results.average_curves(journal)
    assert most == 3
    table = tabulate_curves([each for curves in batches for each in curves])
    assert sorted(found) == sorted(
        f"curves/{name}/{quantity}" for name in table["curve"].unique() for quantity in ("logit", "probability")
    )
    for name, each in table.groupby("curve", observed=True):
        for quantity in ("logit", "probability"):
            expected = np.nanmean(resample_curves(each, quantity), axis=0)
            steps, means = zip(*found[f"curves/{name}/{quantity}"], strict=True)
            assert list(steps) == [round(100 * share) for share in GRID]
            np.testing.assert_allclose(means, expected, rtol=1e-13, atol=1e-15)


def test_entries_are_read_as_json_reads_them(tmp_path: Path) -> None:
    """Also names of files that are no text, and numbers that take all digits."""
    journal = write_journal(tmp_path)
    line = journal.locate(0).read_bytes().split(b"\n")[0]
    for old, new in (
        (b"photos/", b"photos/\\ud83d"),
        (b"0.75", b"0.1000000000000000055511151231257827"),
        (b"-0.125", b"NaN"),
    ):
        changed = line.replace(old, new)
        assert changed != line
        found, expected = stored_json.parse_form(changed, "entry"), json.loads(changed)
        assert repr(found) == repr(expected)
