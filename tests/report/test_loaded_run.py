"""A run that is loaded in Python has the tables and maps of its files, read when they are asked for."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import seewhy
from commands import Runner, rows
from seewhy.core.errors import UserError
from seewhy.report.loaded_run import load_run
from seewhy.runs.attribution_files import read_attribution

GIVEN = ("explainer=saliency", "metric=[deletion,sparseness]", "data.limit=5", "data.batch_size=2", "page=false")


@pytest.fixture
def folder(runner: Runner) -> Path:
    return runner(*GIVEN)


def test_tables_hold_what_the_files_hold(folder: Path) -> None:
    run = seewhy.load_run(folder)
    table, predictions = run.table(), {row["image"]: row for row in rows(folder / "predictions.csv")}
    assert sorted(table.index) == sorted(predictions)
    for name, row in table.iterrows():
        assert row["predicted"] == predictions[str(name)]["predicted"]
        assert row["probability"] == float(predictions[str(name)]["probability"])
    written = {(row["image"], row["metric"]): float(row["value"]) for row in rows(folder / "metrics.csv")}
    assert {(str(name), metric): table.loc[name, metric] for name, metric in written} == pytest.approx(written)
    assert len(run.table("metrics")) == len(written)
    assert len(run.table("curves")) == len(rows(folder / "curves.csv"))
    assert run.table("skipped").empty
    assert run.record["explainer"]["name"] == "saliency"
    with pytest.raises(UserError, match="explanations, metrics, curves, skipped"):
        run.table("scores")


def test_maps_are_read_when_they_are_asked_for(folder: Path) -> None:
    run = load_run(str(folder))
    names = list(run.maps)
    assert len(names) == 5
    assert all(np.array_equal(run.maps[name], read_attribution(folder, name).numpy()) for name in names)
    array = run.maps.array
    assert np.array_equal(np.asarray(array), np.stack([run.maps[name] for name in names]))
    assert np.array_equal(array[1:3], np.stack([run.maps[name] for name in names[1:3]]))
    assert np.array_equal(array[-1], run.maps[names[-1]])
    os.remove(folder / "attributions" / f"{names[0]}.npy")
    places, mask = [3, -1], np.array([False, True, False, True, False])
    assert np.array_equal(array[places], np.stack([run.maps[names[3]], run.maps[names[4]]]))
    assert np.array_equal(array[mask], array[1:4:2])
    assert np.array_equal(array[np.int64(2)], run.maps[names[2]])
    for wrong in (5, 1.5, (1, 2)):
        with pytest.raises(IndexError):
            array[wrong]  # type: ignore[index]
    assert array[1].shape == (32, 32)  # the others are still read
    with pytest.raises(KeyError, match=r"stored no map of it \(callbacks\.attribution\.store=none\?\)"):
        run.maps[names[0]]
    with pytest.raises(KeyError):
        run.maps["none"]


@pytest.mark.slow
def test_shards_are_one_run(runner: Runner, folder: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        runner(*GIVEN, f"shard={number}/2", name=f"shards/{number}")
    joined, whole = load_run(tmp_path / "shards"), load_run(folder)
    assert len(joined.folders) == 2
    pd.testing.assert_frame_equal(joined.table(), whole.table(), check_like=True)
    assert list(joined.table().index) == list(joined.maps) == list(whole.maps), "in the order of the whole run"
    assert all(np.array_equal(joined.maps[name], whole.maps[name]) for name in whole.maps)


def test_what_is_no_run_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, words in (
        (tmp_path / "empty", "empty holds no run.json: give the folder of a run"),
        (tmp_path / "none", "no run.json"),
        (tmp_path, "load one of run"),
    ):
        with pytest.raises(UserError, match=words):
            load_run(path)


@pytest.mark.slow
def test_a_part_of_a_run_is_never_taken_for_the_whole(runner: Runner, folder: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    for number in (1, 2, 3):
        runner(*GIVEN, f"shard={number}/3", name=f"shards/{number}")
    assert len(load_run(shards).maps) == 5
    shutil.copytree(shards / "1", shards / "again")
    with pytest.raises(UserError, match="shard 1/3 is there twice"):
        load_run(shards)
    (shards / "again").rename(tmp_path / "apart")
    (shards / "2").rename(tmp_path / "gone")
    with pytest.raises(UserError, match=r"2 of 3 shards are there; missing: shard=2/3"):
        load_run(shards)
    (tmp_path / "gone").rename(shards / "2")
    set_status(shards / "3", "interrupted")
    with pytest.raises(UserError, match=r"shard 3/3 in .* is not finished .*resume="):
        load_run(shards)
    set_status(folder, "running")
    with pytest.raises(UserError, match=r"run is not finished \(its status is running\).*resume="):
        load_run(folder)
    record = json.loads((folder / "run.json").read_text())
    del record["explainer"]  # which is written at the end: so a run looks while it computes
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"run is not finished \(its status is running\).*resume="):
        load_run(folder)
    (folder / "run.json").write_text(json.dumps(record | {"task": "robustness"}))
    with pytest.raises(UserError, match="is a run of robustness: load_run reads runs of explain"):
        load_run(folder)


def set_status(folder: Path, status: str) -> None:
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"status": status}))


@pytest.mark.parametrize("table", ["predictions.csv", "metrics.csv"])
def test_a_row_that_is_there_twice_is_named(folder: Path, table: str) -> None:
    text = (folder / table).read_text()
    (folder / table).write_text(text + text.splitlines()[-1] + "\n")
    with pytest.raises(UserError, match=rf"{table} has two rows of"):
        load_run(folder)
