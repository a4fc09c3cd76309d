"""A finished run in Python: its tables as pandas, its maps by name or as one lazy array."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seewhy.core.errors import UserError
from seewhy.report.merge_shards import check_shards, find_shards
from seewhy.report.runs import Run, read_curves, read_map, read_record, read_run, read_skipped, sort_explanations

TABLES = ("explanations", "metrics", "curves", "skipped")
LISTED = 4
"""Runs of a sweep that a message names."""


class Maps(Mapping[str, NDArray[np.float32]]):
    """The maps of a run by the name of the explanation; each is read when it is asked for, and none is kept.

    >>> maps = Maps({})
    >>> len(maps), list(maps)
    (0, [])

    Args:
        folders: {name of the explanation: the run folder that holds its map}, in the order of the run.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)
        self._names = list(self._folders)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Read the map of an explanation.

        Args:
            name: As in the table.

        Returns:
            [height, width].

        Raises:
            KeyError: The run has no explanation of this name, or stored no map of it.
            UserError: Its file is no map.
        """
        values = read_map(self._folders[name], name)
        if values is None:
            raise KeyError(f"{name}: the run stored no map of it (callbacks.attribution.store=none?)")
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def array(self) -> LazyArray:
        """All maps as one array [explanations, height, width] that reads what is indexed."""
        return LazyArray(self, self._names)


class LazyArray:
    """Maps as an array [n, height, width]: an index along the first axis reads those maps, `numpy.asarray` all of them.

    Args:
        maps: By name.
        names: Along the first axis.
    """

    def __init__(self, maps: Maps, names: Sequence[str]) -> None:
        self._maps, self._names = maps, list(names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> NDArray[np.float32]:
        """Read one map [height, width], or those of a slice, of a list of numbers or of a mask [n, height, width].

        Raises:
            UserError: The maps have different sizes.
            IndexError: There is no such map.
        """
        places = np.arange(len(self._names))[index]
        if places.ndim == 0:
            return self._maps[self._names[int(places)]]
        read = [self._maps[self._names[place]] for place in places.tolist()]
        if len({each.shape for each in read}) > 1:
            raise UserError("the maps have different sizes, so they are no array: take them by name")
        return np.stack(read) if read else np.zeros((0, 0, 0), np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All maps [n, height, width], in memory at once."""
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True)
class LoadedRun:
    """A run, or the shards of one, as `load_run` returns it.

    Attributes:
        folders: The run folder, or those of the shards.
        record: run.json, of the first shard.
        maps: The maps by name, read when they are asked for.
    """

    folders: tuple[Path, ...]
    record: dict[str, Any]
    maps: Maps
    _runs: tuple[Run, ...]

    def table(self, name: str = "explanations") -> pd.DataFrame:
        """Read a table.

        Args:
            name: `explanations` (a row for each, by its name: label, prediction, target, and a column for each score),
                `metrics` (a row for each score), `curves` (a row for each point), `skipped` (path and reason of the images
                that were left out).

        Returns:
            The table; without rows where the run has none.

        Raises:
            UserError: There is no table of this name.
        """
        if name == "metrics":
            return pd.concat([run.metrics for run in self._runs], ignore_index=True)
        if name == "curves":
            read = [curves for folder in self.folders if (curves := read_curves(folder)) is not None]
            return pd.concat(read, ignore_index=True) if read else pd.DataFrame()
        if name == "skipped":
            rows = [row for folder in self.folders for row in read_skipped(folder)]
            return pd.DataFrame(rows, columns=["path", "reason"])
        if name != "explanations":
            raise UserError(f"a run has no table {name!r}: take one of {', '.join(TABLES)}")
        predictions = sort_explanations(pd.concat([run.predictions for run in self._runs]))
        numbers = {
            key: pd.to_numeric(predictions[key], errors="coerce") for key in ("probability", "target_probability")
        }
        predictions = predictions.assign(**numbers)
        metrics = self.table("metrics")
        if metrics.empty:
            return predictions
        scores = metrics.pivot_table(index="image", columns="metric", values="value", sort=False, dropna=False)
        return predictions.join(scores)


def load_run(folder: str | os.PathLike[str]) -> LoadedRun:
    """Load a finished run of `explain`, or the shards of one.

    Args:
        folder: The run folder, or the folder that holds those of all shards.

    Returns:
        Its record, tables and maps; maps are read when they are asked for, so that a large run fits into memory.

    Raises:
        UserError: The folder holds no run, one that explained nothing or is not finished, or several that are not all shards
            of one, each there once.
    """
    path = Path(folder).expanduser()
    if (path / "run.json").is_file():
        folders = [path]
    else:
        shards = find_shards([str(path)]) if path.is_dir() and any(path.rglob("run.json")) else []
        folders = [shard.folder for shard in shards]
        if not folders:
            raise UserError(_describe_lack(path))
        check_shards(shards)
    records = [read_record(each / "run.json") for each in folders]
    record = records[0]
    if "explainer" not in record and record.get("task") != "explain":
        raise UserError(f"{path} is a run of {record.get('task')}: load_run reads runs of explain")
    if record.get("status") != "completed":  # before its end a run does not say which explainer it has
        state = f"its status is {record.get('status')}"
        raise UserError(f"{path} is not finished ({state}): resume it with python src/explain.py resume={path}")
    runs = tuple(read_run(each, record) for each, record in zip(folders, records, strict=True))
    places = {str(name): run.folder for run in runs for name in run.predictions.index}
    order = sort_explanations(pd.DataFrame(index=list(places))).index
    return LoadedRun(tuple(folders), record, Maps({str(name): places[str(name)] for name in order}), runs)


def _describe_lack(path: Path) -> str:
    below = sorted(each.parent.name for each in path.glob("*/run.json")) if path.is_dir() else []
    if not below:
        return f"{path} holds no run.json: give the folder of a run"
    more = f" and {len(below) - LISTED} more" if len(below) > LISTED else ""
    return f"{path} holds {len(below)} runs: load one of {', '.join(below[:LISTED])}{more}"
