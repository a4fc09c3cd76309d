"""`scripts/behaviour.py`: what is kept of a run, and what a comparison of two records says."""

from __future__ import annotations

import doctest
import json
import shutil
from pathlib import Path
from types import ModuleType

import behaviour
import numpy as np
import pytest
from PIL import Image
from regression import commands, compare, keep, record

METRICS = "image,metric,value\ncat,deletion,0.5\ndog,deletion,nan\nship,deletion,-2.0\n"


def write_record(folder: Path) -> Path:
    """A small record by hand: a table, a keyed table, two arrays and a text."""
    (folder / "run").mkdir(parents=True)
    (folder / "_commands.csv").write_text("command,exit_code,arguments\nrun,0,explain\n")
    (folder / "run" / "metrics.csv").write_text(METRICS)
    (folder / "run" / "_run.csv").write_text("key,value\nstatus,completed\npasses.forward,6\n")
    (folder / "run" / "_stderr.txt").write_text("error: window 64\nset window\n")
    write_arrays(
        folder, {"attributions/cat": np.array([[1.0, -4.0]], np.float32), "attributions/dog": np.zeros((1, 2))}
    )
    return folder


def write_arrays(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(folder / "run" / "_arrays.npz", allow_pickle=False, **arrays)


@pytest.fixture
def records(tmp_path: Path) -> tuple[Path, Path]:
    return write_record(tmp_path / "old"), write_record(tmp_path / "new")


def said(records: tuple[Path, Path], *without: str) -> list[str]:
    return list(compare.compare_records(*records, without))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_equal_records_differ_in_nothing(records: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert said(records) == []
    assert behaviour.main(["compare", *map(str, records)]) == 0
    assert capsys.readouterr().out == "nothing differs\n"


def test_a_value_that_differs_is_named_with_its_size(
    records: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    change(records[1] / "run" / "metrics.csv", "-2.0", "-1.5")
    expected = (
        "run/metrics.csv: column value: 1 of 3 numbers differ; largest absolute difference 0.5 "
        "(row 3: -2 became -1.5), largest relative difference 0.25 (row 3)"
    )
    assert said(records) == [expected]
    assert behaviour.main(["compare", *map(str, records)]) == 1
    assert capsys.readouterr().out == expected + "\n"
    assert said(records, "metrics.csv") == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("nan", "1.0", "largest absolute difference inf (row 2: nan became 1)"),
        ("0.5", "0.50", "1 of 3 numbers are written differently, with the same value"),
        ("0.5", "", "column value, row 1: '0.5' became ''"),
        ("dog", "cow", "column image, row 2: 'dog' became 'cow'"),
        ("image,metric", "picture,metric", "column image: missing"),
        ("image,metric", "picture,metric", "column picture: new"),
        ("dog,deletion,nan\n", "", "2 rows instead of 3"),
        ("dog,deletion,nan\n", "", "row dog, deletion, nan: missing"),
        ("cat,deletion,0.5\ndog,deletion,nan\n", "dog,deletion,nan\ncat,deletion,0.5\n", "rows are in another order"),
    ],
)
def test_tables(records: tuple[Path, Path], old: str, new: str, words: str) -> None:
    change(records[1] / "run" / "metrics.csv", old, new)
    assert any(words in line for line in said(records)), said(records)


def test_only_the_asked_commands_are_compared(records: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (records[1] / "running").mkdir()
    (records[1] / "running" / "metrics.csv").write_text(METRICS)
    (records[1] / "_commands.csv").write_text("command,exit_code,arguments\n")
    assert behaviour.main(["compare", *map(str, records), "--only", "run"]) == 0
    capsys.readouterr()
    assert behaviour.main(["compare", *map(str, records), "--only", "running"]) == 1
    assert capsys.readouterr().out == "running/metrics.csv: new\n"
    assert behaviour.main(["compare", *map(str, records), "--only", "walk"]) == 2
    assert "has anything of a command walk" in capsys.readouterr().err


def test_columns_in_another_order_are_told_and_their_values_compared() -> None:
    old = (["image", "value"], [["cat", "1"], ["dog", "2"]])
    assert list(compare.compare_tables(old, (["value", "image"], [["1", "cat"], ["2", "dog"]]))) == [
        "the columns are in another order: value, image"
    ]
    assert len(list(compare.compare_tables(old, (["value", "image"], [["1", "cat"], ["3", "dog"]])))) == 2


def test_keys_are_compared_by_name(records: tuple[Path, Path]) -> None:
    (records[1] / "run" / "_run.csv").write_text("key,value\nimages,3\nstatus,failed\n")
    assert said(records) == [
        "run/_run.csv: passes.forward: missing",
        "run/_run.csv: images: new",
        "run/_run.csv: column value, status: 'completed' became 'failed'",
    ]


def test_files_that_are_missing_or_new(records: tuple[Path, Path]) -> None:
    (records[1] / "run" / "metrics.csv").rename(records[1] / "run" / "scores.csv")
    assert said(records) == ["run/metrics.csv: missing", "run/scores.csv: new"]


def test_arrays(records: tuple[Path, Path]) -> None:
    cat = np.array([[1.0, -4.5]], np.float32)
    write_arrays(records[1], {"attributions/cat": cat, "attributions/cow": np.zeros(2)})
    assert said(records) == [
        "run/_arrays.npz: array attributions/dog: missing",
        "run/_arrays.npz: array attributions/cow: new",
        "run/_arrays.npz: array attributions/cat: 1 of 2 values differ; largest absolute difference 0.5, "
        "relative to the largest magnitude 0.125",
    ]


@pytest.mark.parametrize(
    ("dog", "words"),
    [
        (np.zeros((2, 1)), "shape [2, 1] instead of [1, 2]"),
        (np.zeros((1, 2), np.float32), "type float32 instead of float64"),
        (np.array([[0.0, np.nan]]), "1 of 2 values differ; largest absolute difference inf"),
        (np.array([[0.0, -0.0]]), "the same values with other bytes"),
    ],
)
def test_an_array_of_another_kind(records: tuple[Path, Path], dog: np.ndarray, words: str) -> None:
    write_arrays(records[1], {"attributions/cat": np.array([[1.0, -4.0]], np.float32), "attributions/dog": dog})
    (line,) = said(records)
    assert line.startswith(f"run/_arrays.npz: array attributions/dog: {words}")


def test_digests_are_compared_where_the_arrays_are_not_there(records: tuple[Path, Path]) -> None:
    for folder, digest in zip(records, "ab", strict=True):
        (folder / "run" / "_arrays.csv").write_text(f"array,sha256\nattributions/cat,{digest}\n")
    assert said(records) == []
    (records[0] / "run" / "_arrays.npz").unlink()
    assert "run/_arrays.csv: column sha256, attributions/cat: 'a' became 'b'" in said(records)


def test_lines_of_a_text(records: tuple[Path, Path]) -> None:
    change(records[1] / "run" / "_stderr.txt", "window 64", "window 32")
    assert said(records) == ["run/_stderr.txt: -error: window 64", "run/_stderr.txt: +error: window 32"]


def test_many_differences_are_counted() -> None:
    old, new = ((["key", "value"], [[str(row), word] for row in range(9)]) for word in "ab")
    lines = list(compare.compare_tables(old, new, keyed=True))
    assert len(lines) == 6
    assert lines[-1] == "... and 4 more"


def test_a_folder_without_a_record_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(tmp_path / "old")
    (tmp_path / "empty").mkdir()
    assert behaviour.main(["compare", str(tmp_path / "old"), str(tmp_path / "empty")]) == 2
    assert f"{tmp_path / 'empty'} holds no record" in capsys.readouterr().err


def write_run(folder: Path, started: str, suffix: str) -> None:
    """A run folder by hand, whose map is stored in one of three ways."""
    (folder / "attributions").mkdir(parents=True)
    passes = {"forward": 3.0}
    content = {"status": "completed", "started": started, "attribution_seconds": len(started), "passes": passes}
    (folder / "run.json").write_text(json.dumps({**content, "folder": str(folder)}))
    (folder / "board.csv").write_text(f"explainer,seconds,passes\nrise,{len(started)},3\n")
    values = np.array([[0.5, -0.25]], np.float32)
    place = folder / "attributions" / f"cat{suffix}"
    if suffix == ".npy":
        np.save(place, values)
    elif suffix == ".npz":
        np.savez(place, attribution=(values / 2).astype(np.float16), scale=np.float32(2))
    else:
        from safetensors.numpy import save_file

        save_file({"attribution": values}, place)
    Image.new("RGB", (4, 3), (200, 0, 0)).save(folder / "sheet.png", compress_level=len(started) % 9)
    (folder / "journal").mkdir()
    (folder / "journal" / "plan.json").write_text(started)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_time_machine_and_storage_leave_no_trace_in_a_record(tmp_path: Path, suffix: str) -> None:
    for name, started, kind in (("old", "2026-01-01", ".npy"), ("new", "a later time", suffix)):
        write_run(tmp_path / name / "work" / "sweep" / "0_run", started, kind)
        clean = record.cleaner(tmp_path / name / "work", tmp_path / name / "checkout")
        keep.keep_runs(tmp_path / name / "work", tmp_path / name / "record", clean)
        (tmp_path / name / "record" / "_commands.csv").write_text("command,exit_code,arguments\n")
    old, new = tmp_path / "old" / "record", tmp_path / "new" / "record"
    assert (new / "sweep" / "0_run" / "board.csv").read_text() == "explainer,passes\nrise,3\n"
    with np.load(new / "sweep" / "0_run" / "_arrays.npz") as arrays:
        assert arrays["attributions/cat"].tolist() == [[0.5, -0.25]]
    assert list(compare.compare_records(old, new, without=["_files.csv"])) == []
    run = (new / "sweep" / "0_run" / "_run.csv").read_text()
    assert run == 'key,value\nstatus,"""completed"""\npasses.forward,3.0\nfolder,"""WORK/sweep/0_run"""\n'


def test_another_pixel_of_a_picture_is_seen(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 3))
    picture.save(tmp_path / "one.png")
    shutil.copy(tmp_path / "one.png", tmp_path / "two.png")
    assert keep.describe_picture(tmp_path / "one.png", "x") == keep.describe_picture(tmp_path / "two.png", "x")
    picture.putpixel((1, 1), (0, 0, 1))
    picture.save(tmp_path / "two.png")
    assert keep.describe_picture(tmp_path / "one.png", "x") != keep.describe_picture(tmp_path / "two.png", "x")


def test_every_explainer_and_metric_has_a_command() -> None:
    """Globs and `metric=all` cover them; what a glob leaves out is named by another command."""
    texts = [" ".join(command.arguments) for command in commands.COMMANDS]
    assert any("explainer=glob(*,exclude=attention_*)" in text for text in texts)
    assert any("attention_gradient,attention_rollout" in text for text in texts)
    assert any("metric=all" in text and "data.masks=" in text for text in texts)
    assert any("corruption=all" in text and "fgsm_study,pgd_study" in " ".join(texts) for text in texts)
    names = [command.name for command in commands.COMMANDS]
    assert len(names) == len(set(names))


def test_a_record_is_never_written_over_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(tmp_path / "old")
    assert behaviour.main(["record", str(tmp_path / "old")]) == 2
    assert "is not empty: give a new folder" in capsys.readouterr().err
    assert behaviour.main(["record", str(tmp_path / "new"), "--only", "nothing"]) == 2
    assert "no command is called nothing" in capsys.readouterr().err


@pytest.mark.parametrize("module", [compare, keep], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
