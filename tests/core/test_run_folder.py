"""Files are whole or absent; run.json says what happened."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from seewhy.core.files import RunFolder
from seewhy.runs.record import RunRecord, read_git_state


def test_a_write_that_fails_leaves_the_old_file_and_no_remains(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_bytes("table.csv", b"old")

    def half(file: object) -> None:
        file.write(b"ne")  # type: ignore[attr-defined]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        folder.write("table.csv", half)
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert (tmp_path / "table.csv").read_bytes() == b"old"


def test_csv_quotes_what_needs_it_and_leaves_missing_values_empty(tmp_path: Path) -> None:
    path = RunFolder(tmp_path).write_csv("deep/t.csv", ("a", "b"), [{"a": 'x,"y"\nz'}, {"a": 1, "b": 2}])
    assert path.read_text() == 'a,b\n"x,""y""\nz",\n1,2\n'


def test_a_table_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_bytes("t.csv", b"old")

    def rows() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        folder.write_csv("t.csv", ("a",), rows())
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_bytes() == b"old"


def test_the_record_keeps_what_it_was_told(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, "explain", ["seed=3"], 3)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"
    record.update(status="completed", images=2)
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["status"] == "completed"
    assert (content["images"], content["seed"], content["overrides"]) == (2, 3, ["seed=3"])
    assert content["versions"]["torch"]
    assert content["seconds"] >= 0


def test_outside_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert read_git_state(tmp_path) == {"git_commit": None, "git_dirty": None}


def test_an_installed_package_has_no_commit_of_the_repository_around_it(tmp_path: Path) -> None:
    package = tmp_path / "venv" / "seewhy"
    package.mkdir(parents=True)
    (package / "record.py").touch()
    (tmp_path / "theirs.py").touch()
    user = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for arguments in (["init", "-q"], ["add", "theirs.py"], [*user, "commit", "-q", "-m", "theirs"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    assert read_git_state(tmp_path)["git_commit"]
    assert read_git_state(package) == {"git_commit": None, "git_dirty": None}


def test_new_sources_are_changes_and_new_pictures_are_none(tmp_path: Path) -> None:
    user = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "old.py").touch()
    for arguments in (["init", "-q"], ["add", "src/old.py"], [*user, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    (tmp_path / "holiday.jpg").touch()
    assert read_git_state(tmp_path / "src")["git_dirty"] is False
    (tmp_path / "src" / "new.py").touch()
    assert read_git_state(tmp_path / "src")["git_dirty"] is True
