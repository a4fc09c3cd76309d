"""Runs whose maps lie in a file for each batch, or nowhere: interrupted, sharded, joined and loaded like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import seewhy
from commands import composed, rows
from resuming import Count, explain, images, products, record
from seewhy.cli import tasks

BATCHES, NONE = "callbacks.attribution.store=batches", "callbacks.attribution.store=none"
DRAWN = ("callbacks=[attribution,faithfulness,tables,figures]", "data.batch_size=2")


def list_maps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "attributions").glob("*"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of five images and one that is none, and runs of them in three batches, by the name of the store."""
    folder = tmp_path_factory.mktemp("stores")
    data = images(folder / "data", 5)
    explain(folder / "images", data, *DRAWN)
    explain(folder / "batches", data, *DRAWN, BATCHES)
    explain(folder / "none", data, *DRAWN, NONE)
    return folder


def test_the_store_changes_nothing_but_the_files_of_the_maps(base: Path) -> None:
    expected = {name: content for name, content in products(base / "images").items() if name[:12] != "attributions"}
    assert list_maps(base / "batches") == [f"{number:08d}.safetensors" for number in range(3)]
    assert not (base / "none" / "attributions").exists()
    stored = {name: content for name, content in products(base / "batches").items() if name[:12] != "attributions"}
    assert stored == expected, "the sheet is drawn from the maps as they are stored"
    assert products(base / "none") == {name: each for name, each in expected.items() if name != "sheet.png"}
    forms = [record(base / store)["attribution_form"] for store in ("images", "batches", "none")]
    assert forms == ["float32", "float32, a file a batch", "none"]


def test_a_run_is_loaded_alike_whatever_its_store(base: Path) -> None:
    by_image, by_batch, without = (seewhy.load_run(base / store) for store in ("images", "batches", "none"))
    assert list(by_batch.maps) == list(by_image.maps)
    for name, values in by_image.maps.items():
        np.testing.assert_array_equal(by_batch.maps[name], values)
    np.testing.assert_array_equal(np.asarray(by_batch.maps.array), np.asarray(by_image.maps.array))
    assert without.table().equals(by_image.table())
    with pytest.raises(KeyError, match="stored no map of it"):
        without.maps[next(iter(without.maps))]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(base: Path, tmp_path: Path, count: Count, dtype: str) -> None:
    given = (*DRAWN, BATCHES, f"callbacks.attribution.dtype={dtype}", "callbacks.figures.limit=0")
    explain(tmp_path / "whole", base / "data", *given)

    def interrupt() -> None:
        raise KeyboardInterrupt

    count.calls, count.stop = 0, (2, interrupt)
    with pytest.raises(SystemExit):
        explain(tmp_path / "run", base / "data", *given)
    done = list_maps(tmp_path / "run")
    assert done == ["00000000.safetensors"]
    stored = json.loads((tmp_path / "run" / "journal" / "00000000.json").read_bytes().splitlines()[0])["stored"]
    assert f"attributions/{done[0]}" in stored
    (tmp_path / "run" / "attributions" / done[0]).write_bytes(b"damaged")
    explain(tmp_path / "run", base / "data", *given)
    assert products(tmp_path / "run") == products(tmp_path / "whole")
    maps = {store: [(tmp_path / store / "attributions" / name).read_bytes() for name in list_maps(tmp_path / store)]
            for store in ("run", "whole")}  # fmt: skip
    assert maps["run"] == maps["whole"]


@pytest.mark.slow
def test_shards_are_joined_and_loaded_with_their_files_of_batches(base: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        explain(tmp_path / "shards" / str(number), base / "data", *DRAWN, BATCHES, f"shard={number}/2")
    assert [list_maps(tmp_path / "shards" / number) for number in "12"] == [
        ["00000000.safetensors", "00000002.safetensors"],
        ["00000001.safetensors"],
    ]
    given = [f"runs={tmp_path}/shards/*", f"output={tmp_path / 'joined'}", "hydra.mode=RUN"]
    tasks.execute(tasks.report, composed("report", given))
    assert products(tmp_path / "joined") == products(base / "batches")
    assert list_maps(tmp_path / "joined") == list_maps(base / "batches")
    whole = seewhy.load_run(base / "batches")
    for folder in (tmp_path / "joined", tmp_path / "shards"):
        loaded = seewhy.load_run(folder)
        assert sorted(loaded.maps) == sorted(whole.maps)
        assert all(np.array_equal(loaded.maps[name], values) for name, values in whole.maps.items())
    assert len(rows(tmp_path / "joined" / "predictions.csv")) == 5
