"""The loggers that take more than numbers (TensorBoard, CSV files, Weights & Biases, MLflow), one or several at once."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from seewhy.core.cells import restore_row
from seewhy.core.disclosure import mask_secrets, mask_values
from seewhy.core.files import RunFolder
from seewhy.runs.loggers.base import Parameters, Rows, RunLogger, build_preview, encode_preview

TENSORBOARD_PIXELS = 45_000
TENSORBOARD_LEVELS = 31
"""TensorBoard encodes pictures as PNG and writes them at 79 ms a MB. This many pixels, each channel rounded to a
multiple of 1/31 (at most 4 of 255 off), are some 30 kB; with 255 levels they would be 60."""
TENSORBOARD_ROWS = 100
"""Rows of a table in TensorBoard's TEXT tab."""
MLFLOW_BATCH = 1000
"""The most numbers that MLflow takes in one request."""


class TensorBoard(RunLogger):
    """TensorBoard: values of images are histograms, curves are scalars over x, a run is one row of the HPARAMS tab."""

    def log_values(self, values: Mapping[str, Sequence[float]], step: int = 0) -> None:
        """Log the distribution over the images; as scalars they would be columns of the HPARAMS tab."""
        for name, column in values.items():
            finite = np.array(column, np.float64)[np.isfinite(column)]
            if finite.size:
                self.logger.experiment.add_histogram(name, finite, step)

    def log_image(self, name: str, png: bytes, step: int = 0) -> None:
        """Log a small picture of fewer colours; the whole one is in the run folder."""
        pixels = np.asarray(build_preview(png, TENSORBOARD_PIXELS), np.float32)
        rounded = np.rint(np.rint(pixels * (TENSORBOARD_LEVELS / 255)) * (255 / TENSORBOARD_LEVELS)).astype(np.uint8)
        self.logger.experiment.add_image(name, rounded, step, dataformats="HWC")

    def log_table(self, name: str, columns: Sequence[str], rows: Rows) -> None:
        """Log the first rows in Markdown."""
        lines = [columns, ["---"] * len(columns)]
        lines += [
            [str(row.get(column, "")).replace("|", "\\|") for column in columns] for row in rows[:TENSORBOARD_ROWS]
        ]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        more = len(rows) - TENSORBOARD_ROWS
        text += f"\n\n... and {more:,} more rows" if more > 0 else ""
        self.logger.experiment.add_text(f"tables/{name}", text, 0)

    def log_text(self, name: str, text: str) -> None:
        """Log a text as it is, in a block of Markdown."""
        self.logger.experiment.add_text(name, f"```\n{text}\n```", 0)

    def log_run(self, parameters: Parameters, results: Mapping[str, float], step: int = 0) -> None:
        """Log a session of the HPARAMS tab without a list of columns.

        TensorBoard then takes the columns from all runs together, so that runs with different parameters can be
        compared; with the list of any of them it would show the columns of that run alone. The row is named by what was
        run, its folder last: the tab cuts long names at their end.
        """
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
        from torch.utils.tensorboard.summary import hparams

        self.log_scalars(results, step)
        _, start, end = hparams(dict(parameters), {})
        folder = Path(self.logger.log_dir).resolve().parent
        what = [str(parameters[key]) for key in ("explainer", "explainers", "model") if key in parameters]
        data = start.value[0].metadata.plugin_data
        session = HParamsPluginData.FromString(data.content)
        session.session_start_info.group_name = ", ".join([*what, f"{folder.parent.name}/{folder.name}"])
        data.content = session.SerializeToString()
        for summary in (start, end):
            self.logger.experiment.file_writer.add_summary(summary, step)


class CsvFiles(RunLogger):
    """Files in the folder of a `CSVLogger`.

    metrics.csv has the scalars and the values of the images, run.csv parameters and results in one row, curves/ one file
    a curve, tables/ the tables, images/ the previews.
    """

    def __init__(self, logger: Any) -> None:
        super().__init__(logger)
        _ = logger.experiment  # it empties its folder of what an earlier attempt logged
        self.folder = RunFolder(Path(logger.log_dir))

    def log_curve(self, name: str, points: Sequence[tuple[int, float]]) -> None:
        """Write <name>.csv with the columns x and y."""
        rows = ({"x": x, "y": repr(float(y))} for x, y in points if np.isfinite(y))
        self.folder.write_csv(f"{name}.csv", ("x", "y"), rows)

    def log_image(self, name: str, png: bytes, step: int = 0) -> None:
        """Write images/<name>.jpg, and images/<name>_<step>.jpg for a step above 0."""
        self.folder.write_bytes(f"images/{_name_image(name, step)}", encode_preview(png))

    def log_table(self, name: str, columns: Sequence[str], rows: Rows) -> None:
        """Write tables/<name>.csv."""
        self.folder.write_csv(f"tables/{name}.csv", columns, rows)

    def log_text(self, name: str, text: str) -> None:
        """Write <name>.txt."""
        self.folder.write_bytes(f"{name}.txt", text.encode())

    def log_run(self, parameters: Parameters, results: Mapping[str, float], step: int = 0) -> None:
        """Write run.csv."""
        row = {**parameters, **results}
        self.folder.write_csv("run.csv", row, [row])


class WeightsAndBiases(RunLogger):
    """Weights & Biases, online or offline."""

    def log_image(self, name: str, png: bytes, step: int = 0) -> None:
        """Log the preview as a JPEG file."""
        self.logger.log_image(name, [build_preview(png)], step, file_type=["jpg"])

    def log_table(self, name: str, columns: Sequence[str], rows: Rows) -> None:
        """Log a wandb.Table of texts."""
        cells = [[str(row.get(column, "")) for column in columns] for row in rows]
        self.logger.log_table(f"tables/{name}", list(columns), cells)

    def log_text(self, name: str, text: str) -> None:
        """Log a text as a table of one cell."""
        self.logger.log_table(name, [name], [[text]])

    def log_run(self, parameters: Parameters, results: Mapping[str, float], step: int = 0) -> None:
        """Fill the config and the summary of the run, which are the columns of the table of runs."""
        self.logger.log_hyperparams(dict(parameters))
        self.logger.experiment.summary.update(dict(results))

    def close(self, status: str = "success") -> None:
        """End the run, so that the next job of a sweep begins one of its own."""
        super().close(status)
        self.logger.experiment.finish(exit_code=int(status != "success"))


class MLflow(RunLogger):
    """MLflow, on a server or in a folder."""

    def log_values(self, values: Mapping[str, Sequence[float]], step: int = 0) -> None:
        """Log each column in few requests."""
        for name, column in values.items():
            self.log_curve(name, list(enumerate(column)))

    def log_curve(self, name: str, points: Sequence[tuple[int, float]]) -> None:
        """Log the points in few requests."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, float(y), now, int(x)) for x, y in points if np.isfinite(y)]
        for start in range(0, len(metrics), MLFLOW_BATCH):
            self.logger.experiment.log_batch(self.logger.run_id, metrics=metrics[start : start + MLFLOW_BATCH])

    def log_image(self, name: str, png: bytes, step: int = 0) -> None:
        """Log the artifact images/<name>.jpg."""
        preview = Image.open(io.BytesIO(encode_preview(png)))
        self.logger.experiment.log_image(self.logger.run_id, preview, f"images/{_name_image(name, step)}")

    def log_table(self, name: str, columns: Sequence[str], rows: Rows) -> None:
        """Log the artifact tables/<name>.json, which MLflow shows as a table."""
        cells = {column: [str(row.get(column, "")) for row in rows] for column in columns}
        self.logger.experiment.log_table(self.logger.run_id, cells, f"tables/{name}.json")

    def log_text(self, name: str, text: str) -> None:
        """Log the artifact <name>.txt."""
        self.logger.experiment.log_text(self.logger.run_id, text, f"{name}.txt")


def _name_image(name: str, step: int) -> str:
    return f"{name}_{step}.jpg" if step else f"{name}.jpg"


CLASSES: dict[type[Logger], type[RunLogger]] = {
    TensorBoardLogger: TensorBoard,
    CSVLogger: CsvFiles,
    WandbLogger: WeightsAndBiases,
    MLFlowLogger: MLflow,
}
TABLE_ROWS = 1000
"""Rows of a table that are logged; the file in the run folder has all of them."""


class LoggerGroup(RunLogger):
    """The same to each of several loggers; none at all is allowed.

    Args:
        loggers: Lightning's, such as `trainer.loggers`, on the first process of a run. As a context manager the group
            closes them, with the status `failed` after an error.
    """

    def __init__(self, loggers: Iterable[Logger] = ()) -> None:
        self.members = [_choose_class(logger)(logger) for logger in loggers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close("success" if kind is None else "failed")

    def log_scalars(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers by name."""
        for member in self.members:
            member.log_scalars(values, step)

    def log_values(self, values: Mapping[str, Sequence[float]], step: int = 0) -> None:
        """Log one number for each image of the run."""
        for member in self.members:
            member.log_values(values, step)

    def log_curve(self, name: str, points: Sequence[tuple[int, float]]) -> None:
        """Log a curve."""
        for member in self.members:
            member.log_curve(name, points)

    def log_image(self, name: str, png: bytes, step: int = 0) -> None:
        """Log a preview of a picture."""
        for member in self.members:
            member.log_image(name, png, step)

    def log_table(self, name: str, columns: Sequence[str], rows: Rows) -> None:
        """Log a table."""
        for member in self.members:
            member.log_table(name, columns, rows)

    def log_text(self, name: str, text: str) -> None:
        """Log a text."""
        for member in self.members:
            member.log_text(name, mask_secrets(text))

    def log_run(self, parameters: Parameters, results: Mapping[str, float], step: int = 0) -> None:
        """Log what was chosen for the run and what came out."""
        for member in self.members:
            member.log_run(mask_values(parameters), results, step)

    def close(self, status: str = "success") -> None:
        """Write out what is pending."""
        for member in self.members:
            member.close(status)

    def log_config(self, folder: Path) -> None:
        """Log the config that Hydra left in a run folder.

        Args:
            folder: The run folder.
        """
        path = folder / ".hydra" / "config.yaml"
        if self.members and path.is_file():
            self.log_text("config", path.read_text(encoding="utf-8"))

    def log_files(
        self, folder: Path, tables: Sequence[str] = (), images: Mapping[str, str] | None = None, step: int = 0
    ) -> None:
        """Log files of a run folder; those that are not there are left out.

        Args:
            folder: The run folder.
            tables: Names of CSV files without their suffix; their first 1,000 rows are logged.
            images: The file of each picture, by the name under which it is logged.
            step: Of the pictures.
        """
        if not self.members:
            return
        for name, file in (images or {}).items():
            if (folder / file).is_file():
                self.log_image(name, (folder / file).read_bytes(), step)
        for name in tables:
            if (folder / f"{name}.csv").is_file():
                with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as content:
                    reader = csv.DictReader(content)
                    rows = [restore_row(row) for row in islice(reader, TABLE_ROWS)]
                self.log_table(name, reader.fieldnames or (), rows)


def _choose_class(logger: Logger) -> type[RunLogger]:
    return next((ours for theirs, ours in CLASSES.items() if isinstance(logger, theirs)), RunLogger)
