"""All loggers of a run behind one interface."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from seewhy.runs.loggers.backends import CsvFiles, MLflow, TensorBoard, WeightsAndBiases
from seewhy.runs.loggers.base import Parameters, Rows, RunLogger

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
            member.log_text(name, text)

    def log_run(self, parameters: Parameters, results: Mapping[str, float], step: int = 0) -> None:
        """Log what was chosen for the run and what came out."""
        for member in self.members:
            member.log_run(parameters, results, step)

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
                    rows = list(islice(reader, TABLE_ROWS))
                self.log_table(name, reader.fieldnames or (), rows)


def _choose_class(logger: Logger) -> type[RunLogger]:
    return next((ours for theirs, ours in CLASSES.items() if isinstance(logger, theirs)), RunLogger)
