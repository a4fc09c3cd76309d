"""The journal is checked, not trusted: whatever is missing, damaged, edited or of another form is not finished."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from journals import PLAN, batch_results, write_batch, write_journal
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.runs.journal import Journal
from seewhy.runs.resume_check import identify_run
from seewhy.runs.stored_json import VERSION, read_form
from seewhy.runs.tables import write_tables

FORMATS = ROOT / "tests" / "runs" / "formats"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_journal(tmp_path)
    journal = Journal(tmp_path)
    assert journal.read_plan() == PLAN
    for number, results in enumerate(journal.read_batches()):
        assert repr(results.to_plain() | {"stored": {}}) == repr(batch_results(number).to_plain())
        assert sorted(results.stored) == sorted(
            str(path.relative_to(tmp_path))
            for path in tmp_path.glob("[af]*/*")
            if path.stem in {f"image_{each.name[6:]}" for each in results.explanations}
        )
    assert journal.count_finished() == {0: 1, 1: 4, 2: 2}
    assert journal.read_batch_sizes() == {"forward 3x4x4": 4, "gradient 3x4x4": 2}


def edit_entry(folder: Path, number: int, change: Callable[[dict[str, Any]], object]) -> None:
    """Change an entry and give it the digest of its new content, as someone who knows the format would."""
    path = Journal(folder).locate(number)
    plain = json.loads(path.read_bytes().splitlines()[0])
    change(plain)
    line = json.dumps(plain, separators=(",", ":")).encode()
    path.write_bytes(line + b"\n" + hashlib.blake2b(line, digest_size=16).hexdigest().encode() + b"\n")


def swap(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def replace_by(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


MAP, PICTURE, ENTRY = "attributions/image_2.npy", "figures/image_2.png", "journal/00000001.json"

DAMAGES: dict[str, Callable[[Path], object]] = {
    "a map is gone": lambda run: (run / MAP).unlink(),
    "a map has other values and the same size": lambda run: swap(run / MAP, b"\0\0\0@", b"\0\0@@"),
    "the header of a map is damaged": lambda run: swap(run / MAP, b"NUMPY", b"NUMPX"),
    "a map is cut": lambda run: os.truncate(run / MAP, 100),
    "a map is a folder": lambda run: replace_by(run / MAP, Path.mkdir),
    "a map is a pipe": lambda run: replace_by(run / MAP, os.mkfifo),
    "a map is a link to its copy": lambda run: (
        (run / MAP).rename(run / "copy.npy"),
        (run / MAP).symlink_to(run / "copy.npy"),
    ),
    "a picture is gone": lambda run: (run / PICTURE).unlink(),
    "a picture is cut": lambda run: os.truncate(run / PICTURE, 10),
    "a picture is empty": lambda run: os.truncate(run / PICTURE, 0),
    "a picture is another": lambda run: shutil.copy(run / "figures/image_1.png", run / PICTURE),
    "the entry is gone": lambda run: (run / ENTRY).unlink(),
    "the entry is empty": lambda run: os.truncate(run / ENTRY, 0),
    "the entry is cut": lambda run: os.truncate(run / ENTRY, 300),
    "the entry lacks its last digit": lambda run: os.truncate(run / ENTRY, os.path.getsize(run / ENTRY) - 2),
    "a number of the entry is edited": lambda run: swap(run / ENTRY, b'"loss":1.5', b'"loss":0.5'),
    "the entry is a folder": lambda run: replace_by(run / ENTRY, Path.mkdir),
    "the entry is a pipe": lambda run: replace_by(run / ENTRY, os.mkfifo),
    "the entry is that of another batch": lambda run: shutil.copy(run / "journal/00000000.json", run / ENTRY),
    "text for a number": lambda run: edit_entry(run, 1, lambda e: e["images"][0].update(loss="1.5")),
    "a truth value for a number": lambda run: edit_entry(run, 1, lambda e: e["images"][0].update(loss=True)),
    "a list for a name": lambda run: edit_entry(run, 1, lambda e: e["images"][0].update(name=["a"])),
    "an unknown key": lambda run: edit_entry(run, 1, lambda e: e["images"][0].update(more=1)),
    "a missing key": lambda run: edit_entry(run, 1, lambda e: e["images"][0]["explanation"].pop("metrics")),
    "text for a metric": lambda run: edit_entry(
        run, 1, lambda e: e["images"][0]["explanation"]["metrics"].update(deletion="0")
    ),
    "columns of unequal length": lambda run: edit_entry(
        run, 1, lambda e: e.update(curves=[["image_1", "a", "b", [0.0, 1.0], [1.0], [1.0]]])
    ),
    "negative passes": lambda run: edit_entry(run, 1, lambda e: e["costs"].update(metrics=[-1, 0, 1.0])),
    "a list for the entry": lambda run: edit_entry(run, 1, lambda e: e.clear()),
    "a file outside": lambda run: edit_entry(run, 1, lambda e: e["stored"].update({"../outside": "0" * 32})),
    "a file without a digest": lambda run: edit_entry(run, 1, lambda e: e["stored"].update({"nothing": ""})),
    "an entry of another run": lambda run: edit_entry(run, 1, lambda e: e.update(run=identify_run({"data": {}}))),
    "nested without end": lambda run: (run / ENTRY).write_bytes(b"[" * 100_000),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_batch_of_which_anything_is_wrong_is_not_finished(kind: str, tmp_path: Path) -> None:
    write_journal(tmp_path)
    DAMAGES[kind](tmp_path)
    assert set(Journal(tmp_path).count_finished()) == {0, 2}


MENDED = [kind for kind in DAMAGES if not kind.endswith("a folder")]


@pytest.mark.parametrize("kind", MENDED)
def test_computed_again_the_tables_are_those_of_an_undisturbed_run(kind: str, tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    write_tables(RunFolder(whole), write_journal(whole))
    write_journal(run)
    DAMAGES[kind](run)
    again = Journal(run)
    write_batch(again, 1)
    write_tables(RunFolder(run), again)
    for name in ("predictions.csv", "metrics.csv", "skipped.csv", MAP, PICTURE, ENTRY):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
        assert not (run / name).is_symlink()


def test_batches_of_another_run_do_not_count(tmp_path: Path) -> None:
    """A file that was copied from a run with another seed has the right number, form and digests."""
    write_journal(tmp_path / "a")
    write_journal(tmp_path / "b", {**PLAN, "config": {**PLAN["config"], "seed": 1}})  # type: ignore[dict-item]
    shutil.copy(Journal(tmp_path / "b").locate(1), Journal(tmp_path / "a").locate(1))
    assert set(Journal(tmp_path / "a").count_finished()) == {0, 2}


def test_shards_of_a_run_have_its_name_and_other_runs_another() -> None:
    own = identify_run(PLAN)
    assert own == identify_run(json.loads(json.dumps({**PLAN, "shard": "2/3", "overrides": []})))
    assert own == identify_run({**PLAN, "data": {"names": "0123", "times of files": "9"}})
    for key, other in (("weights", "00"), ("device", "cuda"), ("images", 8), ("data", {"names": "1"}), ("config", {})):
        assert own != identify_run({**PLAN, key: other}), key
    assert identify_run(None) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plan: plan.pop("version"), f"an earlier version of seewhy .format 1, this one reads {VERSION}."),
        (lambda plan: plan.update(version=99), "a later version of seewhy .format 99"),
        (lambda plan: plan.update(version="2"), "version should be a valid integer .it is '2'"),
        (lambda plan: plan.update(images=-1), "images should be greater than or equal to 0"),
        (lambda plan: plan.update(batches="3"), "batches should be a valid integer"),
        (lambda plan: plan.update(config=[]), "config should be an object"),
        (lambda plan: plan.update(overrides="a=1"), "overrides should be a valid array"),
        (lambda plan: plan.update(overrides=[1]), r"overrides\.0 should be a valid string"),
        (lambda plan: plan.update(shard="1/1000000000000"), "shard"),
        (lambda plan: plan.update(shard=None), "shard should be a valid string"),
        (lambda plan: plan.pop("weights"), "weights is missing"),
        (lambda plan: plan.pop("data"), "data is missing"),
    ],
)
def test_a_plan_that_does_not_fit_is_one_sentence(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    write_journal(tmp_path)
    path = tmp_path / "journal" / "plan.json"
    plan = json.loads(path.read_text())
    change(plan)
    path.write_text(json.dumps(plan))
    with pytest.raises(UserError, match=rf"plan\.json .*{words}") as refused:
        Journal(tmp_path).read_plan()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"version": NaN}'])
@pytest.mark.parametrize("name", ["journal/plan.json", "run.json"])
def test_what_is_no_json_of_a_run_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"is not the (plan|record) of a run: ") as refused:
        read_form(tmp_path / name, "plan" if "plan" in name else "record")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_plan_that_is_no_file_is_one_sentence(tmp_path: Path, make: Callable[[Path], object]) -> None:
    write_journal(tmp_path)
    replace_by(tmp_path / "journal" / "plan.json", make)
    with pytest.raises(UserError, match="is no file"):
        Journal(tmp_path).read_plan()


def test_batches_without_a_plan_are_of_no_run(tmp_path: Path) -> None:
    assert Journal(tmp_path).read_plan() is None
    write_journal(tmp_path)
    (tmp_path / "journal" / "plan.json").unlink()
    with pytest.raises(UserError, match=r"holds finished batches, but no plan\.json"):
        Journal(tmp_path).read_plan()


def test_names_that_are_no_text_are_kept(tmp_path: Path) -> None:
    """A folder of images may have a name that is not UTF-8; Python has lone surrogates for it."""
    odd = os.fsdecode(b"photos/\xff")
    plan = {**PLAN, "overrides": [f"data.root={odd}"], "config": {"data.root": odd}}
    write_journal(tmp_path, plan)  # type: ignore[arg-type]
    assert Journal(tmp_path).read_plan() == plan
    assert set(Journal(tmp_path).count_finished()) == {0, 1, 2}


def test_this_version_writes_the_files_of_its_format(tmp_path: Path) -> None:
    """A difference here is a new format: raise VERSION, keep this folder as an example of the earlier one, and write the
    new one by `PYTHONPATH=src python tests/journals.py FOLDER`. Before VERSION is released, writing it anew is enough."""
    write_journal(tmp_path)
    written = sorted(path.relative_to(tmp_path) for path in (tmp_path / "journal").rglob("*.json"))
    example = FORMATS / f"version_{VERSION}"
    assert written == sorted(path.relative_to(example) for path in (example / "journal").rglob("*.json"))
    for name in written:
        assert (tmp_path / name).read_text() == (example / name).read_text(), name


def test_the_files_of_this_format_are_read(tmp_path: Path) -> None:
    shutil.copytree(FORMATS / f"version_{VERSION}", tmp_path / "run")
    write_journal(tmp_path / "written")
    for name in ("attributions", "figures"):
        shutil.copytree(tmp_path / "written" / name, tmp_path / "run" / name)
    journal = Journal(tmp_path / "run")
    assert journal.read_plan() == PLAN
    assert [repr(results.to_plain() | {"stored": {}}) for results in journal.read_batches()] == [
        repr(batch_results(number).to_plain()) for number in range(3)
    ]


def test_a_journal_of_the_first_format_is_refused_by_name(tmp_path: Path) -> None:
    shutil.copytree(FORMATS / "version_1", tmp_path / "run")
    with pytest.raises(
        UserError, match=r"written by an earlier version of seewhy \(format 1, .* begin in a new folder"
    ):
        Journal(tmp_path / "run").read_plan()
    assert read_form(tmp_path / "run" / "run.json", "record")["status"] == "completed"
