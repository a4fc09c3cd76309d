"""Runs that are killed, stopped or run out of disk, and then go on."""

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import rows
from resuming import FEW, MEASURED, SMALL, Count, explain, images, products, record
from seewhy.callbacks import journaling
from seewhy.cli.resume import prepend_earlier_overrides
from seewhy.core.errors import UserError
from seewhy.runs.journal import Journal


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """(the data, what an uninterrupted run leaves)."""
    base = tmp_path_factory.mktemp("undisturbed")
    data = images(base / "data")
    explain(base / "run", data)
    made = products(base / "run")
    assert len([name for name in made if name.startswith("attributions/")]) == 7
    assert {"predictions.csv", "metrics.csv", "summary.csv", "curves.csv", "skipped.csv", "curves.png"} <= set(made)
    return data, made


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "code", "reason"), [(interrupt, 130, "Ctrl-C"), (terminate, 143, "SIGTERM")])
def test_a_stopped_run_ends_in_order_and_goes_on(
    undisturbed: tuple[Path, dict[str, bytes]],
    tmp_path: Path,
    count: Count,
    stop: Callable[[], None],
    code: int,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, expected = undisturbed
    folder = tmp_path / "run"
    before = signal.getsignal(signal.SIGTERM)
    count.stop = (3, stop)
    with pytest.raises(SystemExit) as ended:
        explain(folder, data)
    assert ended.value.code == code
    assert signal.getsignal(signal.SIGTERM) == before
    assert (record(folder)["status"], record(folder)["reason"]) == ("interrupted", reason)
    assert f"src/explain.py resume={folder}" in capsys.readouterr().err
    done = rows(folder / "predictions.csv")
    assert len(done) + len(rows(folder / "skipped.csv")) == 4
    assert len(rows(folder / "summary.csv")) == 2
    explain(folder, data, "data.num_workers=2", "threads=1")
    assert products(folder) == expected
    assert not {row["image"] for row in done} & set(count.names[len(done) :])
    assert record(folder)["status"] == "completed"
    assert record(folder)["images_explained"] == 7
    assert [one["status"] for one in record(folder)["earlier"]] == ["interrupted"]  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_long_run_does_not_make_tables_while_a_scheduler_waits(
    undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path, count: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journaling, "QUICK", 1)
    for stop, made in ((terminate, False), (interrupt, True)):
        folder = tmp_path / stop.__name__
        count.calls, count.stop = 0, (3, stop)
        with pytest.raises(SystemExit):
            explain(folder, undisturbed[0])
        assert (folder / "predictions.csv").is_file() == made
        assert set(Journal(folder).count_finished()) == {0, 1}


@pytest.mark.slow
def test_a_finished_run_is_not_computed_again(
    undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path, count: Count
) -> None:
    data, expected = undisturbed
    explain(tmp_path, data)
    first = record(tmp_path)
    made, count.names = count.names, []
    for path in tmp_path.glob("*.csv"):
        path.unlink()
    explain(tmp_path, data)
    assert (len(made), count.names) == (7, [])
    assert products(tmp_path) == expected
    for key in ("images", "images_explained", "images_skipped", "passes_per_image", "metric_passes", "logged"):
        assert record(tmp_path)[key] == first[key], key


def test_half_written_files_do_not_count(
    undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path, count: Count
) -> None:
    data, expected = undisturbed
    explain(tmp_path, data)
    journal = Journal(tmp_path)
    kept = [len(entry.images) for entry in journal.read_batches()]
    assert sum(kept) == 7
    torn = journal.locate(1)
    torn.write_bytes(torn.read_bytes()[:-40])
    lost = tmp_path / next(iter(journal.read(3).stored))  # type: ignore[union-attr]
    lost.write_bytes(lost.read_bytes()[:-1])
    (tmp_path / "journal" / ".00000002.json.123.part").write_bytes(b"{")
    assert set(Journal(tmp_path).count_finished()) == {0, 2}
    count.names = []
    explain(tmp_path, data)
    assert len(count.names) == kept[1] + kept[3]
    assert products(tmp_path) == expected


@pytest.mark.slow
def test_damaged_maps_and_pictures_are_computed_again(tmp_path: Path, count: Count) -> None:
    data, run = images(tmp_path / "data", 5), tmp_path / "run"
    drawn = ["callbacks=[attribution,faithfulness,tables,figures]", "data.batch_size=1"]
    explain(run, data, *drawn)
    expected = products(run)
    maps, pictures = sorted(run.glob("attributions/*.npy")), sorted(run.glob("figures/*.png"))
    header, values = bytearray(maps[0].read_bytes()), bytearray(maps[1].read_bytes())
    header[12] ^= 1
    values[-8:] = b"somebody"
    maps[0].write_bytes(header)
    maps[1].write_bytes(values)
    pictures[2].unlink()
    pictures[3].write_bytes(pictures[3].read_bytes()[:200])
    count.names = []
    explain(run, data, *drawn)
    assert count.names == [path.stem for path in maps[:4]]
    assert products(run) == expected


@pytest.mark.slow
def test_the_plan_is_compared_before_the_first_batch(
    tmp_path: Path, count: Count, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = images(tmp_path / "data", 2), tmp_path / "run"
    count.stop = (1, interrupt)
    with pytest.raises(SystemExit):
        explain(run, data)
    assert Journal(run).list_numbers() == []
    with pytest.raises(SystemExit) as ended:
        explain(run, data, "seed=1")
    assert ended.value.code == 2
    assert "seed: 0 → 1" in capsys.readouterr().err
    (run / "journal" / "plan.json").write_text("{")
    with pytest.raises(SystemExit) as ended:
        explain(run, data)
    assert ended.value.code == 2
    assert "plan.json is not the plan of a run: Invalid JSON" in capsys.readouterr().err


@pytest.mark.slow
def test_a_resumed_run_takes_the_batch_sizes_that_were_measured(
    tmp_path: Path, count: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache of the machine is another by then, as on a machine that was busy at first."""
    from seewhy.models import batched

    monkeypatch.setattr(batched, "read_batch_sizes", dict)
    monkeypatch.setattr(batched, "save_batch_sizes", lambda sizes: None)
    monkeypatch.setattr(batched, "_measure", lambda *_: 2)
    data, run = images(tmp_path / "data", 5), tmp_path / "run"
    count.stop = (3, interrupt)
    with pytest.raises(SystemExit):
        explain(run, data, "probe_batch_size=auto")
    monkeypatch.setattr(batched, "_measure", lambda *_: 4)
    explain(run, data, "probe_batch_size=auto")
    assert record(run)["probe_batch_sizes"] == {"forward 3x32x32": [2]}
    shutil.rmtree(run / "journal")
    shutil.rmtree(run / "attributions")
    explain(run, data, "probe_batch_size=auto")
    assert record(run)["probe_batch_sizes"] == {"forward 3x32x32": [2]}, "of the record of the earlier attempt"
    explain(tmp_path / "other", data, "probe_batch_size=auto")
    assert record(tmp_path / "other")["probe_batch_sizes"] == {"forward 3x32x32": [4]}


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int, number: int = errno.ENOSPC) -> None:
    """From the given write on, no file can be written."""
    written = []

    def fsync(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > after:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("seewhy.core.files.os.fsync", fsync)


@pytest.mark.slow
@pytest.mark.parametrize("after", [20])
def test_a_full_disk_is_an_interruption(
    undisturbed: tuple[Path, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, expected = undisturbed
    with monkeypatch.context() as patched:
        full_disk(patched, after)
        with pytest.raises(SystemExit) as ended:
            explain(tmp_path, data)
    assert ended.value.code == 130
    assert "No space left on device" in capsys.readouterr().err
    assert record(tmp_path)["status"] == "running"  # there was no room for another word
    assert not list(tmp_path.rglob("*.part"))
    explain(tmp_path, data)
    assert products(tmp_path) == expected


@pytest.fixture(scope="module")
def drawn_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], dict[str, bytes]]:
    """(the data, settings, what an uninterrupted run with figures leaves)."""
    base = tmp_path_factory.mktemp("drawn")
    drawn = ["callbacks=[attribution,tables,figures]", "data.batch_size=1"]
    data = images(base / "data", 3)
    explain(base / "run", data, *drawn)
    return data, drawn, products(base / "run")


@pytest.mark.parametrize(
    "after", [each if each in (3, 5, 8) else pytest.param(each, marks=pytest.mark.slow) for each in range(1, 14)]
)
def test_a_disk_that_is_full_at_any_write_loses_nothing(
    drawn_run: tuple[Path, list[str], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Maps, figures, pictures of the sheet and entries; those that wait to be drawn are called off."""
    data, drawn, expected = drawn_run
    with monkeypatch.context() as patched:
        full_disk(patched, after, errno.EFBIG)
        with pytest.raises(SystemExit) as ended:
            explain(tmp_path / "run", data, *drawn)
    assert (ended.value.code, capsys.readouterr().err.count("interrupted (File too large")) == (130, 1)
    explain(tmp_path / "run", data, *drawn)
    assert products(tmp_path / "run") == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENAMETOOLONG, errno.EDQUOT, errno.EIO, errno.ENOTDIR])
def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the first write nothing is computed and the code is 2; at a later one it is that of a full disk."""
    data, opened = images(tmp_path / "data", 1), Path.open

    def refuse_maps(path: Path, *arguments: str, **options: str) -> object:
        if arguments == ("wb",) and first in path.name:
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", refuse_maps)
    for first, code, words in (("run.json", 2, "nothing was computed"), (".npy", 130, "to resume: ")):
        with pytest.raises(SystemExit) as ended:
            explain(tmp_path / first, data)
        told = capsys.readouterr().err
        assert (ended.value.code, os.strerror(number) in told, words in told) == (code, True, True), told
        assert "Traceback" not in told
    assert record(tmp_path / ".npy")["status"] == "interrupted"


@pytest.mark.slow
def test_figures_and_the_sheet_are_those_of_an_undisturbed_run(tmp_path: Path, count: Count) -> None:
    data = images(tmp_path / "data", 3)
    drawn = ["callbacks=[attribution,tables,figures]", "callbacks.figures.maximum=2", "data.batch_size=1"]
    explain(tmp_path / "one", data, *drawn)
    count.calls, count.stop = 0, (3, interrupt)
    with pytest.raises(SystemExit):
        explain(tmp_path / "two", data, *drawn)
    (tmp_path / "two" / "sheet.png").unlink()
    explain(tmp_path / "two", data, *drawn)
    made = products(tmp_path / "one")
    assert sum(name.endswith("png") for name in made) == 4
    assert products(tmp_path / "two") == made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["explainer=saliency"], "explainer._target_: seewhy.explainers.controls.Random → seewhy.explainers.gradient"),
        (["seed=1"], "seed: 0 → 1"),
        (["++metric.deletion.n_steps=5"], "metric.deletion.n_steps: 4 → 5"),
        (["data.batch_size=3"], "data.batch_size: 2 → 3"),
        (["callbacks=[attribution,tables]"], "callbacks.faithfulness._target_"),
        (["shard=1/2"], "shard: 1/1 → 1/2"),
    ],
)
def test_another_config_is_refused(
    undisturbed: tuple[Path, dict[str, bytes]], change: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, expected = undisturbed
    folder = data.parent / "run"
    before = (folder / "run.json").read_bytes()
    with pytest.raises(SystemExit) as ended:
        explain(folder, data, *change)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert products(folder) == expected
    assert (folder / "run.json").read_bytes() == before


@pytest.mark.slow
def test_other_weights_and_other_images_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, folder = images(tmp_path / "data", 3), tmp_path / "run"
    few = ["callbacks=[attribution,tables]"]
    weights = tmp_path / "weights.pth"

    def attempt() -> str:
        try:
            explain(folder, data, *few, f"model.weights={weights}")
        except SystemExit as ended:
            assert ended.code == 2
        return capsys.readouterr().err

    import torch

    from seewhy.models.cifar_networks import CifarCNN

    torch.manual_seed(0)
    torch.save(CifarCNN().state_dict(), weights)
    assert attempt() == ""
    first = next(data.rglob("*.png"))
    stamp = first.stat().st_mtime_ns
    os.utime(first, ns=(0, 0))
    assert "data (times of files): " in attempt()
    os.utime(first, ns=(stamp, stamp))
    assert attempt() == ""
    torch.save(CifarCNN().state_dict(), weights)
    assert "weights: " in attempt()


def test_resume_takes_the_arguments_of_the_run(undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    data, _ = undisturbed
    folder = data.parent / "run"
    given = prepend_earlier_overrides([f"resume={folder}", "threads=1"], "explain")
    earlier = [*FEW, *SMALL, *MEASURED[:-1], "data=folder", f"data.root={data}"]
    assert given == [*earlier, "threads=1", f"hydra.run.dir='{folder}'"]
    assert prepend_earlier_overrides(["seed=1"], "robustness") == ["seed=1"]
    with pytest.raises(UserError, match="only explain can be resumed, not robustness"):
        prepend_earlier_overrides([f"resume={folder}"], "robustness")
    with pytest.raises(UserError, match=r"hydra\.sweep\.dir=<its folder>"):
        prepend_earlier_overrides(["-m", f"resume={folder}"], "explain")
    with pytest.raises(UserError, match="has no journal of a run: give the folder"):
        prepend_earlier_overrides([f"resume={tmp_path}"], "explain")


@pytest.mark.slow
def test_the_limit_counts_places_whatever_was_done_before(
    undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path, count: Count
) -> None:
    data, _ = undisturbed
    limited = "callbacks.attribution.limit=5"
    count.stop = (2, interrupt)
    with pytest.raises(SystemExit):
        explain(tmp_path, data, limited)
    explain(tmp_path, data, limited)
    explained = [row["image"] for row in rows(tmp_path / "predictions.csv") if row["target"]]
    assert (len(explained), count.names) == (5, explained)


@pytest.mark.slow
def test_a_finished_run_given_again_computes_nothing_and_draws_the_same(tmp_path: Path, count: Count) -> None:
    folder, data = tmp_path / "run", images(tmp_path / "images", 3)
    given = folder, data, "callbacks=explain", "logger=[]"
    explain(*given)
    before, explained = products(folder), len(count.names)
    explain(*given)
    assert len(count.names) == explained > 0
    assert products(folder) == before
    assert {"sheet.png", "summary.csv"} <= set(before)
    assert record(folder)["status"] == "completed"
