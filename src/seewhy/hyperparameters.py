"""One row of TensorBoard's HPARAMS tab: what was chosen for a run, and what came out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from seewhy.explainers.base import Explainer

Value: TypeAlias = str | float
SUMMARY = "summary"
"""The folder of the row inside of the run's TensorBoard folder: the tab takes the scalars in it for the results."""


def explainer_parameters(explainer: Explainer) -> dict[str, Value]:
    """The explainer's name, its seed, and each parameter that is set as `explainer.<key>`."""
    hidden = {"seed", "probe_batch_size"}
    chosen: dict[str, Value] = {"explainer": explainer.name, "seed": explainer.seed}
    for key, value in vars(explainer).items():
        if key not in hidden and value is not None:
            chosen[f"explainer.{key}"] = _plain(value)
    return chosen


def _plain(value: Any) -> Value:
    if isinstance(value, Explainer):
        return f"{value.name} ({value.parameters})" if value.parameters else value.name
    return value if isinstance(value, str | float | int) and not isinstance(value, bool) else str(value).lower()


def log_hyperparameters(
    loggers: Iterable[Logger], parameters: Mapping[str, Value], results: Mapping[str, float], step: int
) -> None:
    """Write one session with its results, all at `step`, to every TensorBoard logger; results without a value are left out.

    Only the session is written and no list of columns: TensorBoard then takes the columns from all runs together, so
    that runs with different parameters can be compared.
    """
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            continue
        writer: Any = SummaryWriter(str(Path(logger.log_dir) / SUMMARY))
        for name, value in results.items():
            if math.isfinite(value):
                writer.add_scalar(name, value, step)
        _, start, end = hparams(dict(parameters), {})
        for part in (start, end):
            writer._get_file_writer().add_summary(part, step)
        writer.close()
