"""What is kept of a run folder: its tables, the parts of run.json that any machine would write, arrays and pictures."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

TIMING = "seconds"
"""Columns, keys and tags with this word depend on the machine's speed."""
VOLATILE = {"command", "started", "git_commit", "git_dirty", "python", "platform", "versions"}
"""Keys of run.json that say when and where the command was run."""
LEFT_OUT = {"journal", ".hydra", "checkpoints"}
"""Folders of a run whose files are no result: what resuming needs, and the config as it was composed."""
SHARES_OF_TIME = {"waiting_share", "network_share"}
"""Keys of run.json that are quotients of seconds."""
TIMED_PICTURES = {"pareto.png"}
"""Pictures that show seconds."""
PICTURES = {".png", ".webp", ".jpg", ".gif"}
MAP_KEY = "attribution"

Table = tuple[list[str], list[list[str]]]
Clean = Callable[[str], str]


def keep_runs(runs: Path, record: Path, clean: Clean) -> None:
    """Keep what is below `runs` in the same folders of `record`; `clean` takes the names of this machine out of a text.

    Tables keep their names. What is made here begins with `_`: `_run.csv` and `_metrics.csv` (JSON as keys and values),
    `_arrays.npz` with its digests in `_arrays.csv`, `_pictures.csv` (digests of pixels), `_scalars.csv` (TensorBoard),
    `_files.csv` (the names of all files).
    """
    folders = sorted({path.parent for path in runs.rglob("run.json")})
    covered = {folder: [other for other in folders if folder in other.parents] for folder in folders}
    loose = sorted(child for child in runs.iterdir() if child.is_dir())
    for folder in folders:
        _keep(folder, covered[folder], record / folder.relative_to(runs), clean)
    for folder in loose:
        inner = [other for other in folders if folder == other or folder in other.parents]
        if folder not in inner:
            _keep(folder, inner, record / folder.relative_to(runs), clean)


def _keep(folder: Path, inner: list[Path], record: Path, clean: Clean) -> None:
    """Keep one run, without the runs that lie inside of its folder."""
    files = [path for path in _files(folder) if not any(run in path.parents for run in inner)]
    names = {path: path.relative_to(folder).as_posix() for path in files}
    record.mkdir(parents=True, exist_ok=True)
    shown = {name if "events.out" not in name else f"{Path(name).parent.as_posix()}/events" for name in names.values()}
    write_table(record / "_files.csv", (["file"], [[clean(name)] for name in sorted(shown)]))
    arrays: dict[str, np.ndarray] = {}
    pictures: list[list[str]] = []
    for path, name in names.items():
        if path.suffix == ".csv":
            (record / name).parent.mkdir(parents=True, exist_ok=True)
            write_table(record / name, cleaned(without_timing(read_table(path)), clean))
        elif path.suffix == ".json":
            rows = [[clean(key), clean(value)] for key, value in flatten(json.loads(path.read_text()))]
            write_table(record / Path(name).with_name(f"_{path.stem}.csv"), (["key", "value"], rows))
        elif path.suffix == ".txt":
            (record / name).write_text(clean(path.read_text()))
        elif path.suffix in (".npy", ".npz", ".safetensors"):
            arrays |= read_arrays(path, name.removesuffix(path.suffix))
        elif path.suffix in PICTURES and path.name not in TIMED_PICTURES:
            pictures.append(describe_picture(path, name))
            if path.suffix == ".png" and path.parent.name == "images":
                arrays[name] = np.asarray(Image.open(path))
    if arrays:
        np.savez_compressed(record / "_arrays.npz", allow_pickle=False, **arrays)
        digests = [[name, str(array.dtype), str(list(array.shape)), digest(array)] for name, array in arrays.items()]
        write_table(record / "_arrays.csv", (["array", "dtype", "shape", "sha256"], sorted(digests)))
    if pictures:
        write_table(record / "_pictures.csv", (["picture", "size", "frames", "sha256"], sorted(pictures)))
    scalars = read_scalars(folder, [path.parent for path in files if "events.out" in path.name])
    if scalars:
        write_table(record / "_scalars.csv", (["tag_step", "value"], sorted(scalars)))


def _files(folder: Path) -> list[Path]:
    """The files of a run, sorted."""
    inside = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in inside if not LEFT_OUT & set(path.relative_to(folder).parts[:-1]))


def read_table(path: Path) -> Table:
    """(columns, rows) of a csv file; an empty file has neither."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return (rows[0], rows[1:]) if rows else ([], [])


def write_table(path: Path, table: Table) -> None:
    """Write a csv file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([table[0], *table[1]])


def without_timing(table: Table) -> Table:
    """The table without the columns that depend on the machine's speed.

    >>> without_timing((["image", "seconds"], [["cat", "0.3"]]))
    (['image'], [['cat']])
    """
    columns, rows = table
    kept = [place for place, name in enumerate(columns) if TIMING not in name]
    return [columns[place] for place in kept], [[row[place] for place in kept if place < len(row)] for row in rows]


def cleaned(table: Table, clean: Clean) -> Table:
    """The table with every cell cleaned."""
    return table[0], [[clean(cell) for cell in row] for row in table[1]]


def flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each value of nested JSON under its dotted key, without what depends on time and machine.

    >>> list(flatten({"seed": 0, "passes": {"forward": 2.0}, "waiting_share": 0.1, "earlier": [{"seconds": 3}]}))
    [('seed', '0'), ('passes.forward', '2.0')]
    """
    if isinstance(content, Mapping):
        pairs: Iterable[tuple[str, Any]] = ((str(key), value) for key, value in content.items())
    elif isinstance(content, list):
        pairs = ((str(place), value) for place, value in enumerate(content))
    else:
        yield prefix, json.dumps(content, ensure_ascii=False)
        return
    for key, value in pairs:
        if key not in VOLATILE | SHARES_OF_TIME and TIMING not in key:
            yield from flatten(value, f"{prefix}.{key}" if prefix else key)


def read_arrays(path: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of a .npy, .npz or .safetensors file by name, whatever the format.

    A map that is stored with a scale is multiplied by it, so that the way of storing does not matter.
    """
    if path.suffix == ".npy":
        return {name: np.load(path)}
    if path.suffix == ".npz":
        with np.load(path) as file:
            content = {key: file[key] for key in file.files}
    else:
        from safetensors.numpy import load_file

        content = load_file(path)
    if MAP_KEY in content:
        values = content.pop(MAP_KEY)
        scale = content.pop("scale", None)
        content = {"": values if scale is None else values.astype(np.float32) * scale} | content
    return {f"{name}:{key}" if key else name: value for key, value in content.items()}


def digest(array: np.ndarray) -> str:
    """SHA-256 of the bytes of an array in row-major order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def describe_picture(path: Path, name: str) -> list[str]:
    """[name, width x height, frames, SHA-256 of the RGBA pixels of all frames]: the same whatever the encoder did."""
    total, frames = hashlib.sha256(), 0
    with Image.open(path) as picture:
        size = f"{picture.width}x{picture.height}"
        for frame in ImageSequence.Iterator(picture):
            total.update(frame.convert("RGBA").tobytes())
            frames += 1
    return [name, size, str(frames), total.hexdigest()]


def read_scalars(folder: Path, places: Iterable[Path]) -> list[list[str]]:
    """[tag@step, value] of the TensorBoard files in some folders, without what measures time."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = []
    for place in sorted(set(places)):
        events = EventAccumulator(str(place), size_guidance={"scalars": 0, "tensors": 1, "images": 1})
        events.Reload()
        inner = place.relative_to(folder).as_posix()
        for tag in events.Tags()["scalars"]:
            if TIMING not in tag:
                rows += [[f"{inner}/{tag}@{event.step}", repr(event.value)] for event in events.Scalars(tag)]
    return rows
