"""Curves over the level, and the sheets, for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from seewhy.robustness.summary import CLEAN, values_of


def log_summary(loggers: Iterable[Any], summary: pd.DataFrame, folder: Path, pictures: Mapping[str, int]) -> None:
    """Scalars robustness/<quantity>/<corruption> and `pictures` (file name: level), all with the level as step."""
    values = values_of(summary)
    clean = {quantity: value for (corruption, _, quantity), value in values.items() if corruption == CLEAN}
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            continue
        writer: Any = logger.experiment
        for (corruption, level, quantity), value in values.items():
            if level == 1 and quantity in clean:
                writer.add_scalar(f"robustness/{quantity}/{corruption}", clean[quantity], 0)
            if level:
                writer.add_scalar(f"robustness/{quantity}/{corruption}", value, level)
        for name, level in pictures.items():
            stem = Path(name).stem.removeprefix(f"level_{level}").strip("_") or "sheet"
            with Image.open(folder / name) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            writer.add_image(f"robustness/{stem}", pixels, level, dataformats="HWC")
