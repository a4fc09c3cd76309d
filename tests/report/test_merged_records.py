"""Merged shards by value, from journals made by hand, and which of them are no shards of one run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from commands import rows
from journals import PLAN, batch_results, file_contents, write_batch
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.report.merge_shards import LISTED, ShardRun, check_shards, find_shards, merge_shards
from seewhy.runs import console
from seewhy.runs.journal import Journal
from seewhy.runs.resume_check import describe_differences, identify_run, select_decisive, select_shared

RECORD = {
    "version": 2,
    "status": "completed",
    "task": "explain",
    "seed": 7,
    "device": "cpu",
    "threads": 2,
    "model": {"name": "net", "weights": "w.pth", "weights_sha256": "ab" * 32},
    "explainer": {"name": "integrated_gradients", "parameters": "n_steps=8", "signed": True},
    "attribution_form": {"type": "float32"},
    "metrics": ["deletion"],
    "command": "of the shard",
    "seconds": 99.0,
    "images": 1,
}


def write_shard(folder: Path, number: int, total: int = 3, **changes: Any) -> Path:
    """A finished shard of the hand-made journal: batch `number - 1`."""
    journal = Journal(folder)
    own = [f"shard={number}/{total}", "output=x", "hydra.run.dir=y"]
    journal.begin({**PLAN, "shard": f"{number}/{total}", "overrides": ["seed=0", *own, "explainer.n_steps=8"]})
    write_batch(journal, number - 1)
    RunFolder(folder).write_json("run.json", {**RECORD, "shard": f"{number}/{total}", **changes})
    return folder


@pytest.fixture
def shards(tmp_path: Path) -> list[ShardRun]:
    for number in (3, 1, 2):
        write_shard(tmp_path / "shards" / "cba"[number - 1], number, seconds=float(number))
    return find_shards([f"{tmp_path}/shards/*"])


def test_shards_are_ordered_by_their_numbers(shards: list[ShardRun]) -> None:
    assert [run.folder.name for run in shards] == ["c", "b", "a"]
    assert [run.record["seconds"] for run in shards] == [1, 2, 3]


def test_the_record_of_the_whole_adds_up_all_shards(shards: list[ShardRun], tmp_path: Path) -> None:
    merged = merge_shards(shards, tmp_path / "merged")
    taken_over = ("model", "device", "threads", "explainer", "attribution_form", "metrics", "seed")
    assert merged == {
        **{key: RECORD[key] for key in taken_over},
        "task": "explain",
        "overrides": ["seed=0", "explainer.n_steps=8"],
        "logged": {"test/loss": 8.25 / 5, "test/accuracy": 2 / 5},
        "images": 6,
        "images_skipped": 1,
        "probe_batch_sizes": {"forward 3x4x4": [4, 8], "gradient 3x4x4": [2]},
        "images_explained": 5,
        "passes_per_image": {"forward": 8.0, "backward": 8.2},
        "attribution_seconds": 1.375,
        "metrics_left_out": ["pointing_game", "relevance_mass"],
        "metric_passes": {"forward": 80, "backward": 0},
        "metric_seconds": 4.5,
        "shards": [str(run.folder) for run in shards],
    }
    plan = Journal(tmp_path / "merged").read_plan()
    assert plan == {**PLAN, "shard": "1/1", "overrides": ["seed=0", "explainer.n_steps=8"]}


def test_what_shards_say_of_accuracy_is_said_of_all_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "FEWEST", 5)  # of which the shards have 5 labelled images, 2 of them right
    model, cut = {**RECORD["model"], "classes": 2, "doubts": ["model.mean"]}, "the centre crop leaves out 25 %"
    for number in (1, 2, 3):
        own = {"accuracy_warning": "of this shard"} if number == 2 else {}
        write_shard(tmp_path / str(number), number, model=model, pictures_cut=cut, **own)
    merged = merge_shards(find_shards([str(tmp_path)]), tmp_path / "merged")
    assert merged["accuracy_warning"].startswith("2 of 5 correct is no better than guessing among 2 classes (p = 0.81)")
    assert "check model.mean" in merged["accuracy_warning"] and merged["pictures_cut"] == cut


def test_without_metrics_there_are_none_in_the_record(tmp_path: Path) -> None:
    bare = {key: value for key, value in RECORD.items() if key != "metrics"}
    for number in (1, 2, 3):
        RunFolder(write_shard(tmp_path / str(number), number)).write_json("run.json", bare | {"shard": f"{number}/3"})
    merged = merge_shards(find_shards([str(tmp_path)]), tmp_path / "merged")
    assert not any(key.startswith("metric") for key in merged)


@pytest.mark.slow
@pytest.mark.parametrize("can_link", [True, False])
def test_every_file_of_every_batch_is_there(
    shards: list[ShardRun], tmp_path: Path, can_link: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links on this disk")

    if not can_link:
        monkeypatch.setattr(os, "link", refuse)
    merge_shards(shards, tmp_path / "merged")
    for number, run in enumerate(shards):
        for name, content in file_contents(number).items():
            assert (tmp_path / "merged" / name).read_bytes() == content
            assert (tmp_path / "merged" / name).samefile(run.folder / name) == can_link
    read = list(Journal(tmp_path / "merged").read_batches())
    assert [[image.name for image in results.images] for results in read] == [
        [image.name for image in batch_results(number).images] for number in range(3)
    ]
    names = [f"image_{number}" for number in range(6)]
    assert [row["image"] for row in rows(tmp_path / "merged" / "predictions.csv")] == names


def test_an_image_in_two_shards_is_named(shards: list[ShardRun], tmp_path: Path) -> None:
    journal = Journal(shards[2].folder)
    journal.join(shards[2].plan)
    results = batch_results(0)
    journal.write(2, results)
    with pytest.raises(UserError, match="image image_0 is in two shards"):
        merge_shards(shards, tmp_path / "merged")


def test_shards_of_another_total_are_named(shards: list[ShardRun], tmp_path: Path) -> None:
    other = find_shards([str(write_shard(tmp_path / "other", 2, total=4))])
    with pytest.raises(UserError, match=r"not of one run: shard: 1/3 → 2/4; merge shards of one run"):
        check_shards([shards[0], *other, shards[2]])


def test_many_missing_shards_are_not_all_listed(shards: list[ShardRun]) -> None:
    def check(total: int) -> str:
        run = shards[0]
        with pytest.raises(UserError) as raised:
            check_shards([run._replace(shard=run.shard._replace(total=total))])
        return str(raised.value)

    listed = ", ".join(f"{number}/{LISTED + 1}" for number in range(2, LISTED + 2))
    assert check(LISTED + 1) == f"1 of {LISTED + 1} shards are there; missing: shard={listed}"
    assert check(LISTED + 2).endswith(f", {LISTED + 1}/{LISTED + 2}, ...")


@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_a_shard_that_is_not_finished_is_named_with_its_state(
    shards: list[ShardRun], status: str, tmp_path: Path
) -> None:
    shards[1] = shards[1]._replace(record=shards[1].record | {"status": status})
    with pytest.raises(UserError, match=rf"shard 2/3 in .* is not finished \(1 of 1 batches, status {status}\)"):
        merge_shards(shards, tmp_path / "merged")
    Journal(shards[0].folder).locate(0).unlink()
    with pytest.raises(UserError, match=r"shard 1/3 in .* is not finished \(0 of 1 batches, status completed\)"):
        merge_shards(shards, tmp_path / "merged")


def test_a_shard_whose_plan_is_damaged_is_an_error_and_another_run_is_not(tmp_path: Path) -> None:
    folder = write_shard(tmp_path / "shards" / "one", 1)
    (folder / "journal" / "plan.json").write_text("{")
    with pytest.raises(UserError, match=r"plan\.json"):
        find_shards([str(tmp_path)])
    RunFolder(folder).write_json("run.json", RECORD)
    assert find_shards([str(tmp_path)]) == []
    shutil.rmtree(folder / "journal")
    assert find_shards([str(tmp_path)]) == []


FREE = {
    "output": "x",
    "page": False,
    "resume": "x",
    "shard": "1/2",
    "threads": 4,
    "logger": {},
    "logger.csv.name": "x",
    "data.num_workers": 2,
    "probe_batch_size": 4,
    "explainer.probe_batch_size": 4,
    "trainer.accelerator": "gpu",
    "trainer.devices": 2,
    "trainer.num_nodes": 2,
    "trainer.strategy": "ddp",
    "trainer.default_root_dir": "x",
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": False,
    "callbacks.attribution.folder": "x",
    "callbacks.figures.maximum": 3,
    "callbacks.logging.images": 3,
    "callbacks.terminal.rows": 3,
    "callbacks.progress.refresh_rate": 3,
}
DECISIVE = {
    "seed": 1,
    "target": "true",
    "outputs": 1,
    "explainer.n_steps": 8,
    "explainer.probe_batch_sizes": 4,
    "data.batch_size": 2,
    "data.limit": 2,
    "model.weights": "x",
    "trainer.precision": 16,
    "callbacks.figures._target_": "x",
    "callbacks.attribution.limit": 3,
    "callbacks.faithfulness.metrics": [],
    "metric.deletion.n_steps": 3,
}


def test_what_decides_numbers_is_compared_and_what_does_not_is_free() -> None:
    assert select_decisive({**FREE, **DECISIVE, "logger": {}}) == DECISIVE


def test_plans_are_told_apart_by_what_shards_share() -> None:
    other = {**PLAN, "shard": "2/3", "overrides": ["x"], "data": {"names": "0123", "times of files": "later"}}
    assert identify_run(other) == identify_run(PLAN) == identify_run(dict(reversed(PLAN.items())))
    assert select_shared(other) == select_shared(PLAN)
    for key, value in (("images", 8), ("weights", "x"), ("data", {"names": "x"}), ("config", {"seed": 1})):
        assert identify_run({**PLAN, key: value}) != identify_run(PLAN), key
    assert identify_run(None) == ""


def test_differences_are_told_once_and_cut() -> None:
    old = {"config": {"seed": 0, "callbacks.faithfulness.seed": 0, "callbacks.x.seed": 5, "a": "x" * 60}, "images": 8}
    new = {"config": {"seed": 1, "callbacks.faithfulness.seed": 1, "callbacks.x.seed": 6, "a": "y" * 61}, "images": 8}
    assert describe_differences(old, new) == [
        "seed: 0 → 1",
        "callbacks.x.seed: 5 → 6",
        f"a: {'x' * 60} → {'y' * 59}…",
    ]
    assert describe_differences({"data": {"names": 1}, "overrides": [1]}, {"data": {}, "overrides": []}) == [
        "data (names): 1 → (not set)"
    ]
