"""What a page shows of a run folder beside its scores; a file that is not there is an empty answer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seewhy import stored_map

NUMBERS = {name: ["", "nan"] for name in ("mean", "low", "high")}


def read_curves(folder: Path) -> pd.DataFrame | None:
    """curves.csv: image, explainer, curve, share, logit, probability."""
    return _read(folder / "curves.csv", {"image": str, "explainer": str, "curve": str})


def read_robustness(folder: Path) -> pd.DataFrame | None:
    """robustness_summary.csv with the levels as text."""
    return _read(folder / "robustness_summary.csv", {"corruption": str, "level": str, "quantity": str, "note": str})


def read_skipped(folder: Path) -> list[tuple[str, str]]:
    """(path, reason) of the images that could not be used."""
    table = _read(folder / "skipped.csv", str)
    return [] if table is None else list(zip(table["path"], table["reason"], strict=True))


def read_map(folder: Path, image: str) -> NDArray[np.float32] | None:
    """The map of an image, float32 [height, width], however it is stored."""
    try:
        return stored_map.read_map(folder, image).numpy()
    except FileNotFoundError:
        return None


def read_preview(folder: Path, image: str) -> bytes | None:
    """images/<image>.webp."""
    path = folder / "images" / f"{image}.webp"
    return path.read_bytes() if path.is_file() else None


def read_figures(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """{name: bytes} of those pictures that are there."""
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def sheet_names(folder: Path) -> list[str]:
    """The sheets of a robustness run, plain ones first, by level."""
    return sorted((f"robustness/{path.name}" for path in folder.glob("robustness/level_*.png")), key=_sheet_order)


def _sheet_order(name: str) -> tuple[str, int]:
    level, _, explainer = name.removeprefix("robustness/level_").removesuffix(".png").partition("_")
    return explainer, int(level) if level.isdigit() else 0


def _read(path: Path, types: Any) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    return pd.read_csv(path, dtype=types, keep_default_na=False, na_values=NUMBERS)
