"""What a record says of a run, and which images its sheet shows."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from journals import write_journal
from seewhy.core.files import RunFolder
from seewhy.core.types import Explanation
from seewhy.runs import logged_results
from seewhy.runs.logged_results import write_sheet
from seewhy.runs.loggers.backends import MLflow, WeightsAndBiases
from seewhy.runs.record import RunRecord


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def test_the_record_begins_with_what_repeats_the_run(tmp_path: Path) -> None:
    command = ["seewhy", "explain", "data.root=two words", "target='cat'"]
    record = RunRecord(tmp_path, "explain", ["seed=3"], 3, command=command)
    content = read(tmp_path)
    assert content["command"] == """seewhy explain 'data.root=two words' 'target='"'"'cat'"'"''"""
    assert {key: content[key] for key in ("version", "status", "task", "overrides", "seed")} == {
        "version": 2,
        "status": "running",
        "task": "explain",
        "overrides": ["seed=3"],
        "seed": 3,
    }
    assert content["versions"]["torch"] == version("torch")
    assert "earlier" not in content
    record.update(images=4)
    last = read(tmp_path)
    assert last == {**content, "images": 4, "seconds": last["seconds"]}
    RunRecord(tmp_path, "explain", [], 0)
    assert read(tmp_path)["earlier"] == [{key: last[key] for key in ("started", "seconds", "status")}]
    RunRecord(tmp_path, "robustness", [], 0)
    assert "earlier" not in read(tmp_path)


def test_another_process_writes_no_record(tmp_path: Path) -> None:
    RunRecord(tmp_path, "explain", [], 0, writes=False).update(images=4)
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("maximum", [1, 2, 100])
def test_the_sheet_shows_the_first_images_whose_files_are_there(
    tmp_path: Path, maximum: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five explained images the first has no picture; the map of image n has the value n."""
    journal, folder = write_journal(tmp_path), RunFolder(tmp_path)
    for number in (1, 2, 4):
        pixels = np.full((2, 2, 3), 51 * number, np.uint8)
        (tmp_path / "journal" / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "journal" / "images" / f"image_{number}.png")
    drawn: list[tuple[list[Explanation], int, dict[str, Any]]] = []

    def draw_grid(explanations: list[Explanation], total: int, **style: Any) -> object:
        drawn.append((explanations, total, style))
        return object()

    monkeypatch.setattr(logged_results, "draw_grid", draw_grid)
    monkeypatch.setattr(logged_results, "encode_figure", lambda figure: b"a sheet")
    write_sheet(folder, journal, maximum, {"strength": 0.5})
    shown = [number for number in (1, 2, 4) if number < maximum]
    assert (tmp_path / "sheet.png").exists() == bool(shown)
    if shown:
        ((explanations, total, style),) = drawn
        assert (total, style) == (5, {"strength": 0.5})
        assert [each.name for each in explanations] == [f"image_{number}" for number in shown]
        for number, each in zip(shown, explanations, strict=True):
            assert each.attribution.tolist() == [[number] * 2] * 2
            assert each.image.shape == (3, 2, 2)
            torch.testing.assert_close(each.image, torch.full((3, 2, 2), number / 5))


class Calls:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *words, **named: self.made.append((name, *words, *named.items()))


def test_mlflow_is_told_texts_and_tables_under_their_names() -> None:
    calls = Calls()
    logger = MLflow(SimpleNamespace(experiment=calls, run_id="r7"))
    logger.log_text("config", "seed: 0")
    logger.log_table("summary", ["metric", "mean"], [{"metric": "deletion", "mean": 0.5}, {"metric": "a"}])
    assert calls.made == [
        ("log_text", "r7", "seed: 0", "config.txt"),
        ("log_table", "r7", {"metric": ["deletion", "a"], "mean": ["0.5", ""]}, "tables/summary.json"),
    ]


@pytest.mark.parametrize(("status", "code"), [("success", 0), ("failed", 1)])
def test_weights_and_biases_end_with_the_status_of_the_run(status: str, code: int) -> None:
    calls = Calls()
    logger = WeightsAndBiases(calls)
    calls.experiment = calls  # type: ignore[attr-defined]
    logger.log_text("config", "seed: 0")
    logger.log_table("summary", ["metric", "mean"], [{"metric": "deletion"}])
    assert calls.made == [
        ("log_table", "config", ["config"], [["seed: 0"]]),
        ("log_table", "tables/summary", ["metric", "mean"], [["deletion", ""]]),
    ]
    logger.close(status)
    assert calls.made[-1] == ("finish", ("exit_code", code))
    other = Calls()
    other.experiment = other  # type: ignore[attr-defined]
    WeightsAndBiases(other).close()
    assert other.made[-1] == ("finish", ("exit_code", 0))
