"""One run split over several machines or processes, and joined again."""

import json
import os
import shutil
from pathlib import Path

import pytest

from commands import composed, rows
from killed_runs import BUSY, GIVEN
from killing import start
from resuming import explain, images, products, record
from seewhy.cli import tasks
from seewhy.core.errors import UserError
from seewhy.runs.resume_check import Shard

FIGURES = ["callbacks=[attribution,faithfulness,tables,figures]", "data.batch_size=2", "callbacks.figures.maximum=3"]
FIGURES += ["callbacks.figures.limit=3"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, the unsplit run `whole`, and its shards in `shards`: three batches in three shards, one image unreadable."""
    folder = tmp_path_factory.mktemp("shards")
    data = images(folder / "data", 5)
    explain(folder / "whole", data, *FIGURES)
    for number in (1, 2, 3):
        explain(folder / "shards" / str(number), data, *FIGURES, f"shard={number}/3")
    return folder


def merge(places: str, folder: Path) -> None:
    tasks.execute(tasks.report, composed("report", [f"runs={places}", f"output={folder}", "hydra.mode=RUN"]))


@pytest.mark.slow
def test_merged_shards_are_the_unsplit_run(base: Path, tmp_path: Path) -> None:
    merge(f"{base}/shards/*", tmp_path)
    expected = products(base / "whole")
    assert len(expected) == 5 + 3 + 8
    assert products(tmp_path) == expected
    whole, merged = record(base / "whole"), record(tmp_path)
    for key in ("images", "images_explained", "images_skipped", "passes_per_image", "metric_passes", "metrics", "task"):
        assert merged[key] == whole[key], key
    assert merged["status"] == "completed"
    assert [len(rows(base / "shards" / part / "predictions.csv")) for part in "123"] == [2, 2, 1]


@pytest.mark.slow
def test_tables_do_not_depend_on_the_figures(base: Path, tmp_path: Path) -> None:
    explain(tmp_path, base / "data")
    made, expected = products(tmp_path), products(base / "whole")
    assert len(made) == 5 + 7
    assert made == {name: content for name, content in expected.items() if name in made}


@pytest.mark.parametrize(
    ("kept", "change", "words"),
    [
        ("13", {}, r"2 of 3 shards are there; missing: shard=2/3"),
        ("1123", {}, r"shard 1/3 is there twice, also in"),
        ("123", {"seed": 1}, r"not of one run: seed: 0 → 1"),
        ("123", {"status": "interrupted"}, r"shard 3/3 in .* is not finished .* resume it with resume="),
    ],
)
def test_shards_that_do_not_fit_are_named(
    base: Path, tmp_path: Path, kept: str, change: dict[str, object], words: str
) -> None:
    from seewhy.report.merge_shards import find_shards

    for place, number in enumerate(kept):
        shutil.copytree(base / "shards" / number, tmp_path / str(place))
    last = tmp_path / str(len(kept) - 1)
    plan = json.loads((last / "journal" / "plan.json").read_text())
    plan["config"] |= {key: value for key, value in change.items() if key in plan["config"]}
    (last / "journal" / "plan.json").write_text(json.dumps(plan))
    (last / "run.json").write_text(json.dumps(record(last) | change))
    with pytest.raises(UserError, match=words):
        merge_parts(find_shards([str(tmp_path)]), tmp_path / "merged")


@pytest.mark.parametrize("name", ["attributions/*.npy", "figures/*.png", "journal/images/*.png", "journal/0*.json"])
def test_a_damaged_shard_is_not_merged(base: Path, tmp_path: Path, name: str) -> None:
    """One byte of a map, a picture or an entry is another, or a link leads to the file of another image."""
    from seewhy.report.merge_shards import find_shards

    shutil.copytree(base / "shards", tmp_path / "shards")
    file = next((tmp_path / "shards" / "2").glob(name))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"shard 2/3 in .* is not finished .0 of 1 batches, status completed."):
        merge_parts(find_shards([f"{tmp_path}/shards/*"]), tmp_path / "merged")
    file.unlink()
    file.symlink_to(next((base / "shards" / "1").glob(name)))
    with pytest.raises(UserError, match=r"shard 2/3 in .* is not finished"):
        merge_parts(find_shards([f"{tmp_path}/shards/*"]), tmp_path / "merged")


def test_what_no_batch_names_is_not_merged_and_merging_twice_changes_nothing(base: Path, tmp_path: Path) -> None:
    from seewhy.report.merge_shards import find_shards

    shutil.copytree(base / "shards", tmp_path / "shards")
    (tmp_path / "shards" / "1" / "attributions" / "mine.npy").write_bytes(b"x")
    for _ in range(2):
        merge_parts(find_shards([f"{tmp_path}/shards/*"]), tmp_path / "merged")
        made = products(tmp_path / "merged")
        assert made == {name: content for name, content in products(base / "whole").items() if name in made}
        assert len([name for name in made if name.startswith(("attributions/", "figures/"))]) == 5 + 3


def merge_parts(parts: list[object], folder: Path) -> None:
    from seewhy.report.merge_shards import merge_shards as join

    join(parts, folder)  # type: ignore[arg-type]


def test_shards_are_not_compared_with_other_runs(base: Path) -> None:
    from seewhy.report.merge_shards import find_shards

    with pytest.raises(UserError, match="holds shards and other runs"):
        find_shards([str(base)])
    assert find_shards([str(base / "whole")]) == []


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "a/b", "1/0", "2/3/4"])
def test_a_shard_that_is_none_is_named(text: str) -> None:
    with pytest.raises(UserError, match="must be i/n"):
        Shard.parse(text)


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(tmp_path: Path) -> None:
    data = images(tmp_path / "data", 8)
    arguments = [*GIVEN, *BUSY, "data=folder", f"data.root={data}", "trainer=ddp", "trainer.accelerator=cpu"]
    process = start(tmp_path, "explain.py", *arguments, "hydra.run.dir=two", "callbacks=explain")
    explain(tmp_path / "one", data, *BUSY, "callbacks=explain")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert products(tmp_path / "two") == products(tmp_path / "one")
    assert output.count("run folder: ") == 1
    assert output.count("9 images × ") == 1
    assert record(tmp_path / "two")["passes_per_image"] == record(tmp_path / "one")["passes_per_image"]
    assert not os.path.exists(tmp_path / "two" / "lightning_logs")
