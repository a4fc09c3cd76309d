"""A run folder belongs to one run: nothing of anybody else is touched, and two runs never write one folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from seewhy.core.errors import UserError
from seewhy.runs.journal import Journal
from seewhy.runs.ownership import LOCK, check_folder_is_free, create_new_folder, hold_folder, refuse_links


def test_a_new_an_empty_and_a_just_created_folder_are_free(tmp_path: Path) -> None:
    check_folder_is_free(tmp_path / "new", "explain")
    (tmp_path / "empty").mkdir()
    check_folder_is_free(tmp_path / "empty", "explain")
    (tmp_path / "begun" / ".hydra").mkdir(parents=True)
    check_folder_is_free(tmp_path / "begun", "explain")


@pytest.mark.parametrize("name", ["notes.txt", "journal/2026/diary.txt", "report.html", ".git/config"])
def test_a_folder_with_files_of_its_user_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="holds files that no run wrote"):
        check_folder_is_free(tmp_path, "explain")
    with pytest.raises(UserError, match=name.split("/")[0]):
        check_folder_is_free(tmp_path, "train", [])


@pytest.mark.parametrize("name", [".hydra", ".hydra/config.yaml", "csv/metrics.csv", "run.json", "checkpoints", "loop"])
def test_a_folder_with_a_link_out_of_it_is_refused(tmp_path: Path, name: str) -> None:
    """Hydra, loggers and checkpoints would write through it."""
    folder, victim = tmp_path / "sent", tmp_path / "victim"
    (folder / name).parent.mkdir(parents=True)
    record_of(folder, "train", [])
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / name if name == "loop" else victim)
    with pytest.raises(UserError, match=rf"holds a link out of it \({re.escape(name)}\).*nothing was changed"):
        check_folder_is_free(folder, "train", [])
    with pytest.raises(UserError, match=r"name another folder with hydra\.sweep\.dir="):
        refuse_links(folder, "hydra.sweep.dir")


def test_a_link_inside_of_a_folder_is_no_way_out(tmp_path: Path) -> None:
    (tmp_path / "wandb" / "run-1").mkdir(parents=True)
    (tmp_path / "wandb" / "latest-run").symlink_to("run-1")
    record_of(tmp_path, "train", [])
    check_folder_is_free(tmp_path, "train", [])


def record_of(folder: Path, task: str, overrides: list[str]) -> None:
    (folder / "run.json").write_text(json.dumps({"status": "completed", "task": task, "overrides": overrides}))


def test_the_folder_of_another_task_is_refused(tmp_path: Path) -> None:
    record_of(tmp_path, "explain", [])
    check_folder_is_free(tmp_path, "explain", ["seed=1"])  # the journal compares the plans
    for task in ("train", "robustness", "report", "synthesize"):
        with pytest.raises(UserError, match="belongs to a run of explain"):
            check_folder_is_free(tmp_path, task, [])


def test_a_task_without_a_journal_begins_again_only_with_the_same_settings(tmp_path: Path) -> None:
    record_of(tmp_path, "train", ["model=cifar_cnn", "seed=1", "hydra.run.dir=/a"])
    check_folder_is_free(tmp_path, "train", ["seed=1", "model=cifar_cnn", "hydra.run.dir=/b"])
    with pytest.raises(UserError, match=r"other settings \(seed=1, seed=2\)"):
        check_folder_is_free(tmp_path, "train", ["model=cifar_cnn", "seed=2"])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"task": 3}', "\x00", "[" * 100_000])
def test_a_record_that_is_none_makes_no_folder_a_run_folder(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json is not the record of a run: .*nothing was changed"):
        check_folder_is_free(tmp_path, "explain")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        check_folder_is_free(tmp_path / "file", "explain")


def test_names_are_given_once(tmp_path: Path) -> None:
    names = [create_new_folder(tmp_path / "a" / "run").name for _ in range(3)]
    assert names == ["run", "run_2", "run_3"]


def test_a_folder_is_held_by_one_process_and_free_when_that_has_ended(tmp_path: Path) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "src")!r})
from pathlib import Path
from seewhy.runs.ownership import hold_folder
with hold_folder(Path({str(tmp_path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"being written by another run .process {holder.pid} "), hold_folder(tmp_path):
        pass
    holder.kill()  # nothing of it can tidy up
    holder.communicate()
    assert (tmp_path / LOCK).exists()
    with hold_folder(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_a_journal_deletes_its_own_entries_alone(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    (journal / "2026").mkdir(parents=True)
    (journal / "2026" / "diary.txt").write_text("mine")
    (journal / "00000003.json").write_text("{}")
    Journal(tmp_path).begin({"images": 1, "data": {}})
    assert sorted(path.name for path in journal.iterdir()) == ["2026", "plan.json"]
    assert (journal / "2026" / "diary.txt").read_text() == "mine"
