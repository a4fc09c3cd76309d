"""Attribution files, the form in which a run stores its maps, and the thread that writes them and the pictures."""

from __future__ import annotations

import contextlib
import io
import json
import math
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
import torch

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder, compute_digest
from seewhy.core.types import Attributions
from seewhy.plots.canvas import Drawn, encode_figure

DTYPES = ("float32", "float16")
STORES = ("images", "batches", "none")
FOLDER = "attributions"
KEY, SCALES = "attribution", "scales"
"""Of the map in an npz file, and of the scales of half precision in the metadata of a safetensors file."""
LARGEST = 2**26
"""Pixels of the largest map that is read, and bytes of the largest header."""
STORED_TYPES: dict[str, Any] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
"""Of a safetensors file."""


@dataclass(frozen=True)
class AttributionFormat:
    """`<image>.npy`, or `<image>.npz` (key `attribution`) where compressed; `<batch>.safetensors` of a file for each batch.

    `float16` halves the bytes, and the file is an npz with a second key `scale`: the map is `attribution` * `scale`, a
    power of two that brings the largest magnitude into (0.5, 1]. Relative error at most 2^-11 for values from 6.1e-5 of
    `scale`, absolute error at most 3e-8 of `scale` for smaller ones. A safetensors file holds each map under the name of
    its explanation, and the scales as JSON under the key `scales` of its metadata.

    Args:
        dtype: `float32` or `float16`.
        compressed: Whether the file is deflated.
        store: A file for each of the `images`, or of the `batches`; `none`: no map is stored.

    Raises:
        UserError: If `dtype` or `store` is another one, or files of batches are to be compressed.
    """

    dtype: str = "float32"
    compressed: bool = False
    store: str = "images"

    def __post_init__(self) -> None:
        for name, value, choices in (("dtype", self.dtype, DTYPES), ("store", self.store, STORES)):
            if value not in choices:
                raise UserError(f"callbacks.attribution.{name}={value} must be one of {', '.join(choices)}")
        if self.compressed and self.store == "batches":
            raise UserError(
                "callbacks.attribution.compressed=true needs store=images: a safetensors file is not compressed; "
                "dtype=float16 halves it"
            )

    def __str__(self) -> str:
        if self.store == "none":
            return "none"
        words = self.dtype, "compressed" if self.compressed else "", "a file a batch" * (self.store == "batches")
        return ", ".join(filter(None, words))

    @property
    def suffix(self) -> str:
        """Of the file's name."""
        return ".npz" if self.compressed or self.dtype == "float16" else ".npy"

    def name_file(self, image: str) -> str:
        """Name the file of a map.

        Args:
            image: The name of the image.

        Returns:
            The path in the run folder.
        """
        return f"{FOLDER}/{image}{self.suffix}"

    def encode(self, attribution: Attributions) -> bytes:
        """Encode a map.

        Args:
            attribution: float32 [height, width].

        Returns:
            The bytes of its file.
        """
        content, values = io.BytesIO(), np.ascontiguousarray(attribution.numpy())  # a transposed map too
        if self.suffix == ".npy":
            np.save(content, values)
            return content.getvalue()
        arrays: dict[str, Any] = {KEY: values}
        if self.dtype == "float16":
            arrays = dict(zip((KEY, "scale"), _halve(values), strict=True))
        (np.savez_compressed if self.compressed else np.savez)(content, **arrays)
        return content.getvalue()

    def list_files(self, number: int, maps: Mapping[str, Attributions]) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """List the files of a batch.

        Args:
            number: Of the batch in the data set.
            maps: float32 [height, width], by the name of the explanation.

        Yields:
            The path of each in the run folder, and what encodes it.
        """
        if self.store == "batches" and maps:
            yield f"{FOLDER}/{number:08d}.safetensors", partial(self._encode_batch, maps)
        elif self.store == "images":
            for name, attribution in maps.items():
                yield self.name_file(name), partial(self.encode, attribution)

    def _encode_batch(self, maps: Mapping[str, Attributions]) -> bytes:
        from safetensors.numpy import save

        arrays, metadata = {name: np.ascontiguousarray(values.numpy()) for name, values in maps.items()}, None
        if self.dtype == "float16":
            halves = {name: _halve(values) for name, values in arrays.items()}
            arrays = {name: values for name, (values, _) in halves.items()}
            metadata = {SCALES: json.dumps({name: float(scale) for name, (_, scale) in sorted(halves.items())})}
        return save(arrays, metadata)


def _halve(values: Any) -> tuple[Any, Any]:
    """(the map in half precision, its scale)."""
    largest = float(np.abs(values, where=np.isfinite(values), out=np.zeros_like(values)).max(initial=0))
    scale = np.float32(2.0 ** np.ceil(np.log2(largest))) if largest else np.float32(1)
    return (values / scale).astype(np.float16), scale


def read_attribution(folder: Path, image: str) -> Attributions:
    """Read a map, in whatever form it is stored.

    Args:
        folder: The run folder.
        image: The name of the image.

    Returns:
        float32 [height, width].

    Raises:
        FileNotFoundError: If the run stored no map of that image.
        UserError: Its file holds something else, or its name leads out of the folder.
    """
    name, file, read = _open_map(RunFolder(folder), image)
    with file:
        try:
            return torch.from_numpy(read(file))
        except Exception as error:  # damaged headers and archives raise errors of any kind
            raise UserError(f"{folder / name} is not the map of a run: {error or type(error).__name__}") from None


def _open_map(stored: RunFolder, image: str) -> tuple[str, IO[bytes], Callable[[IO[bytes]], Any]]:
    """(name, file, reader) of a map."""
    for suffix, read in ((".npy", _read_map), (".npz", _read_packed_map)):
        name = f"{FOLDER}/{image}{suffix}"
        with contextlib.suppress(FileNotFoundError):
            return name, stored.open(name), read
    name = _find_batch(stored.path, image)
    return name, stored.open(name), partial(_read_map_of_batch, image=image)


def _find_batch(folder: Path, image: str) -> str:
    """The file of a batch that holds a map; FileNotFoundError where none does."""
    try:
        status = (folder / FOLDER).stat()
    except OSError as error:
        raise FileNotFoundError(f"{folder} holds no map of {image}") from error
    state = status.st_dev, status.st_ino, status.st_mtime_ns
    index = _index_batches(folder, state)
    if image not in index.files:  # the clock of a file system is coarse: a file may have come in the same tick
        _index_batches.cache_clear()
        index = _index_batches(folder, state)
    if image in index.files:
        return index.files[image]
    if index.damaged:
        raise UserError(index.damaged)
    raise FileNotFoundError(f"{folder} holds no map of {image}")


class _Index(NamedTuple):
    """The file of each map of a run, and what is wrong with the first file that cannot be read."""

    files: dict[str, str]
    damaged: str


@lru_cache(maxsize=8)
def _index_batches(folder: Path, state: tuple[int, ...]) -> _Index:
    """Read the headers of all files of batches, once for each state of their folder."""
    files: dict[str, str] = {}
    damaged = ""
    for path in sorted((folder / FOLDER).glob("*.safetensors")):
        name = f"{FOLDER}/{path.name}"
        try:
            with RunFolder(folder).open(name) as file:
                files |= dict.fromkeys(_read_header(file)[0], name)
        except FileNotFoundError:
            continue
        except Exception as error:
            damaged = damaged or f"{path} is not the map of a run: {error or type(error).__name__}"
    return _Index(files, damaged)


def _read_header(file: IO[bytes]) -> tuple[dict[str, Any], dict[str, float], int]:
    """(the entry of each map, the scales in half precision, where the values begin) of a safetensors file."""
    size = int.from_bytes(file.read(8), "little")
    content = file.read(size) if size <= LARGEST else b""
    if len(content) != size:
        raise ValueError("it is shorter than its header says")
    entries = json.loads(content)
    metadata = entries.pop("__metadata__", {})
    return entries, json.loads(metadata.get(SCALES, "{}")), 8 + size


def _read_map_of_batch(file: IO[bytes], image: str) -> Any:
    entries, scales, start = _read_header(file)
    entry = entries[image]
    dtype, shape, (first, last) = STORED_TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    size = math.prod(shape) * dtype.itemsize
    if len(shape) != 2 or min(*shape, first) < 0 or last - first != size or size > LARGEST * dtype.itemsize:
        raise ValueError(f"it holds {entry['dtype']} {shape} at {first} to {last} instead of float32 [height, width]")
    file.seek(start + first)
    content = file.read(size)
    if len(content) != size:
        raise ValueError("it is shorter than its header says")
    scale = np.float32(scales[image] if entry["dtype"] == "F16" else 1)
    return _check_map(np.frombuffer(bytearray(content), dtype).reshape(shape).astype(np.float32) * scale)


def _read_map(file: IO[bytes]) -> Any:
    return _check_map(_read_array(file))


def _read_packed_map(file: IO[bytes]) -> Any:
    with zipfile.ZipFile(file) as archive:
        scale = _read_member(archive, "scale") if "scale.npy" in archive.namelist() else np.float32(1)
        return _check_map(_read_member(archive, KEY).astype(np.float32) * scale)


def _read_member(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(f"{name}.npy") as file:
        return _read_array(file)


def _read_array(file: IO[bytes]) -> Any:
    """Read an array of numbers; ValueError where the header says anything else, or more than there is."""
    major, _ = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.kind != "f" or fortran or len(shape) > 2 or math.prod(shape) > LARGEST:
        raise ValueError(f"it holds {dtype} {list(shape)} instead of float32 [height, width]")
    content = file.read(math.prod(shape) * dtype.itemsize + 1)
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError("it is longer or shorter than its header says")
    return np.frombuffer(bytearray(content), dtype).reshape(shape)


def _check_map(values: Any) -> Any:
    if values.ndim != 2:
        raise ValueError(f"it holds {list(values.shape)} instead of [height, width]")
    return np.ascontiguousarray(values, np.float32)


Result = TypeVar("Result")
WAITING = 16
"""Figures that may wait to be drawn; their number bounds the memory."""


class StoredFile(NamedTuple):
    """A file that was written.

    Attributes:
        name: In the run folder.
        digest: Of its content, as `RunFolder.compute_digest` gives it.
    """

    name: str
    digest: str


class BackgroundWriter:
    """One thread that writes files in the order given, the same as without it.

    An error while drawing or writing is raised by the next `add` or by `finish`, which must be called before the
    files are read or anything else is drawn.

    Args:
        folder: Where the files are written.
        waiting: The most files that wait to be written, which bounds the memory.
    """

    def __init__(self, folder: RunFolder, waiting: int = WAITING) -> None:
        self.folder = folder
        self.waiting = waiting
        self._pending: deque[Future[Any]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    def add(self, name: str, draw: Callable[[], Drawn]) -> Future[StoredFile]:
        """Draw a figure and write it as a PNG file; waits while too many files are not yet written.

        Args:
            name: Of the file, in the folder.
            draw: Returns the figure.

        Returns:
            Done when the file is written.
        """
        return self.run(name, lambda: encode_figure(draw()))

    def run(self, name: str, encode: Callable[[], bytes]) -> Future[StoredFile]:
        """Write any file; waits as `add` does.

        Args:
            name: Of the file, in the folder.
            encode: Returns its content.

        Returns:
            Done when the file is written.
        """
        return self.submit(partial(self._write, name, encode))

    def submit(self, write: Callable[[], Result]) -> Future[Result]:
        """Let the thread write in any other way; waits as `add` does.

        Args:
            write: Writes, and may return something.

        Returns:
            Done when that is written.
        """
        while self._pending and (self._pending[0].done() or len(self._pending) >= self.waiting):
            self._pending.popleft().result()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="files")
        written = self._thread.submit(write)
        self._pending.append(written)
        return written

    def _write(self, name: str, encode: Callable[[], bytes]) -> StoredFile:
        content = encode()
        self.folder.write_bytes(name, content)
        return StoredFile(name, compute_digest(content))

    def finish(self) -> None:
        """Wait until every file is written, and raise the first error that was not yet raised."""
        thread, self._thread = self._thread, None
        try:
            while self._pending:
                self._pending.popleft().result()
        finally:
            self._pending.clear()
            if thread is not None:
                thread.shutdown(cancel_futures=True)
