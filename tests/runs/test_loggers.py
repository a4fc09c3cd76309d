"""Each logger is told the same through one interface, and holds it: read back from what the logger wrote."""

from __future__ import annotations

import io
import json
import math
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from commands import rows
from seewhy.runs.loggers.backends import LoggerGroup
from seewhy.runs.loggers.base import PREVIEW_PIXELS, build_preview, encode_preview

POINTS = [(0, 0.9), (50, 0.5), (100, 0.1)]
TABLE = [{"metric": "deletion", "mean": "0.5"}, {"metric": "a|b"}]
PARAMETERS = {"explainer": "saliency", "explainer.n_steps": 8}


def photograph(width: int, height: int) -> np.ndarray:
    """Smooth colours with some noise, as hard to compress as a photograph."""
    generator = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 6, width), np.linspace(0, 4, height))
    smooth = np.stack([np.sin(x + y), np.cos(x * y), np.sin(x - 2 * y)], axis=2)
    return np.uint8(np.clip(128 + 90 * smooth + generator.normal(0, 6, smooth.shape), 0, 255))


def encode(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def read_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def log_everything(loggers: LoggerGroup) -> None:
    with loggers:
        loggers.log_scalars({"score/cat": 0.25, "score/nothing": math.nan}, 7)
        loggers.log_values({"per_image/deletion": [0.5, math.nan, 0.75]})
        loggers.log_curve("curves/deletion/black/probability", POINTS)
        loggers.log_image("explanation/cat", encode(photograph(1600, 700)))
        loggers.log_image("robustness/sheet", encode(photograph(40, 30)), 3)
        loggers.log_table("summary", ["metric", "mean"], TABLE)
        loggers.log_text("config", "seed: 0\n")
        loggers.log_run(PARAMETERS, {"average/deletion": 0.625, "average/nothing": math.nan})


def read_events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0, "histograms": 0})
    events.Reload()
    return events


def test_tensorboard(tmp_path: Path) -> None:
    log_everything(LoggerGroup([TensorBoardLogger(tmp_path, name="", version="")]))
    events = read_events(tmp_path)
    scalars = {tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars == {
        "score/cat": [(7, 0.25)],
        "curves/deletion/black/probability": POINTS,
        "average/deletion": [(0, 0.625)],
    }
    histogram = events.Histograms("per_image/deletion")[0].histogram_value
    assert (histogram.num, histogram.min, histogram.max) == (2, 0.5, 0.75)
    assert "| a\\|b |  |" in events.Tensors("tables/summary/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "seed: 0" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    (small,) = events.Images("robustness/sheet")
    assert (small.step, small.width, small.height) == (3, 40, 30)


@pytest.mark.slow
def test_pictures_in_tensorboard_are_small_and_show_the_picture(tmp_path: Path) -> None:
    pixels = photograph(1600, 700)
    loggers = LoggerGroup([TensorBoardLogger(tmp_path, name="", version="")])
    loggers.log_image("explanation/cat", encode(pixels))
    loggers.close()
    (image,) = read_events(tmp_path).Images("explanation/cat")
    assert len(image.encoded_image_string) < 45_000 < len(encode(pixels)) / 20
    preview = Image.open(io.BytesIO(image.encoded_image_string)).convert("RGB")
    assert preview.width / preview.height == pytest.approx(1600 / 700, rel=0.02)
    expected = np.asarray(Image.fromarray(pixels).resize(preview.size, Image.Resampling.BOX), float)
    assert np.abs(np.asarray(preview, float) - expected).mean() < 3
    assert np.abs(np.asarray(preview, float) - np.asarray(build_preview(encode(pixels), 45_000), float)).max() < 4.2


def test_csv(tmp_path: Path) -> None:
    log_everything(LoggerGroup([CSVLogger(tmp_path, name="csv", version="")]))
    folder = tmp_path / "csv"
    scalars = [(row["step"], row["score/cat"], row["per_image/deletion"]) for row in rows(folder / "metrics.csv")]
    assert scalars == [("7", "0.25", ""), ("0", "", "0.5"), ("2", "", "0.75")]
    curve = rows(folder / "curves/deletion/black/probability.csv")
    assert [(int(row["x"]), float(row["y"])) for row in curve] == POINTS
    assert rows(folder / "tables/summary.csv") == [TABLE[0], TABLE[1] | {"mean": ""}]
    assert (folder / "config.txt").read_text() == "seed: 0\n"
    (row,) = rows(folder / "run.csv")
    assert (row["explainer"], row["explainer.n_steps"], row["average/deletion"]) == ("saliency", "8", "0.625")
    assert math.prod(read_size(folder / "images/explanation/cat.jpg")) <= PREVIEW_PIXELS
    assert read_size(folder / "images/robustness/sheet_3.jpg") == (40, 30)


class Counting(Logger):
    """A Lightning logger that the project does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[tuple[dict[str, float], int]] = []
        self.parameters: dict[str, Any] = {}
        self.status: list[str] = []

    name = version = "counting"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.metrics.append((dict(metrics), step or 0))

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        self.parameters |= params

    def finalize(self, status: str) -> None:
        self.status.append(status)


def test_any_other_logger_gets_the_numbers() -> None:
    logger = Counting()
    log_everything(LoggerGroup([logger]))
    assert logger.metrics == [
        ({"score/cat": 0.25}, 7),
        ({"per_image/deletion": 0.5}, 0),
        ({"per_image/deletion": 0.75}, 2),
        *(({"curves/deletion/black/probability": y}, x) for x, y in POINTS),
        ({"average/deletion": 0.625}, 0),
    ]
    assert logger.parameters == PARAMETERS
    assert logger.status == ["success"]


def test_several_at_once_none_and_an_error(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    log_everything(LoggerGroup([first, second]))
    assert first.metrics == second.metrics != []
    log_everything(LoggerGroup())
    third = Counting()
    with pytest.raises(KeyError), LoggerGroup([third]):
        raise KeyError
    assert third.status == ["failed"]


def test_files_that_are_not_there_are_left_out_and_long_tables_are_cut(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text("image,value\n" + "cat,1\n" * 1200)
    loggers = LoggerGroup([CSVLogger(tmp_path, name="csv", version="")])
    loggers.log_files(tmp_path / "run", ("metrics", "summary"), {"sheet": "sheet.png"})
    assert [path.name for path in (tmp_path / "csv").rglob("*.*")] == ["metrics.csv"]
    assert len(rows(tmp_path / "csv" / "tables" / "metrics.csv")) == 1000


def test_a_preview_of_a_small_picture_is_the_picture_itself() -> None:
    pixels = photograph(40, 30)
    assert (np.asarray(build_preview(encode(pixels))) == pixels).all()
    assert len(encode_preview(encode(photograph(1600, 700)))) < 45_000


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def read_wandb_records(path: Path) -> Iterator[bytes]:
    """The records of an offline run: LevelDB's log format after a header of 7 bytes."""
    content, position, record = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last of several parts
            yield record
            record = b""


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from lightning.pytorch.loggers import WandbLogger
    from wandb.proto import wandb_internal_pb2

    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library itself
        log_everything(LoggerGroup([WandbLogger(save_dir=tmp_path, project="seewhy", offline=True)]))
        log_everything(LoggerGroup([WandbLogger(save_dir=tmp_path, project="seewhy", offline=True)]))
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2  # the second job of a sweep has a run of its own
    history, summary, config = list[dict[str, Any]](), dict[str, Any](), dict[str, Any]()
    for content in read_wandb_records(files[0]):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        if record.history.item:
            history.append({_key(i): json.loads(i.value_json) for i in record.history.item})
        summary |= {_key(i): json.loads(i.value_json) for i in record.summary.update}
        config |= {_key(i): json.loads(i.value_json) for i in record.run.config.update}
        config |= {_key(i): json.loads(i.value_json) for i in record.config.update}
    key, step = "curves/deletion/black/probability", "trainer/global_step"
    assert [(row[step], row[key]) for row in history if key in row] == POINTS
    assert [(row[step], row["per_image/deletion"]) for row in history if "per_image/deletion" in row] == [
        (0, 0.5),
        (2, 0.75),
    ]
    assert summary["average/deletion"] == 0.625
    assert (config["explainer"], config["explainer.n_steps"]) == ("saliency", 8)
    media = files[0].parent / "files" / "media"
    assert len(list(media.glob("images/explanation/*.jpg"))) == 1
    assert len(list(media.glob("images/robustness/*.jpg"))) == 1
    (table,) = media.glob("table/tables/summary*.table.json")
    assert json.loads(table.read_text())["data"] == [["deletion", "0.5"], ["a|b", ""]]


def test_mlflow_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # the library sets it
    from lightning.pytorch.loggers import MLFlowLogger

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library itself
        logger = MLFlowLogger("seewhy", save_dir=str(tmp_path), tracking_uri=None)
        log_everything(LoggerGroup([logger]))
        client, run_id = logger.experiment, logger.run_id
        run = client.get_run(run_id)
        history = {name: client.get_metric_history(run_id, name) for name in run.data.metrics}
    values = {name: [(metric.step, metric.value) for metric in metrics] for name, metrics in history.items()}
    assert values == {
        "score/cat": [(7, 0.25)],
        "per_image/deletion": [(0, 0.5), (2, 0.75)],
        "curves/deletion/black/probability": POINTS,
        "average/deletion": [(0, 0.625)],
    }
    assert run.data.params == {"explainer": "saliency", "explainer.n_steps": "8"}
    assert run.info.status == "FINISHED"
    (artifacts,) = tmp_path.rglob(f"{run_id}/artifacts")
    assert read_size(artifacts / "images/robustness/sheet_3.jpg") == (40, 30)
    assert (artifacts / "images/explanation/cat.jpg").stat().st_size < 45_000
    table = json.loads((artifacts / "tables/summary.json").read_text())
    assert table == {"columns": ["metric", "mean"], "data": [["deletion", "0.5"], ["a|b", ""]]}
    assert (artifacts / "config.txt").read_text() == "seed: 0\n"
