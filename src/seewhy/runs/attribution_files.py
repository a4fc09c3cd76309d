"""Attribution files, the form in which a run stores its maps, and the thread that writes them and the pictures."""

from __future__ import annotations

import io
import math
import zipfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.types import Attributions
from seewhy.plots.canvas import Drawn, encode_figure

DTYPES = ("float32", "float16")
FOLDER = "attributions"
KEY = "attribution"
"""Of the map in an npz file."""
LARGEST = 2**26
"""Pixels of the largest map that is read."""


@dataclass(frozen=True)
class AttributionFormat:
    """`<image>.npy`, or `<image>.npz` (key `attribution`) where compressed.

    `float16` halves the bytes, and the file is an npz with a second key `scale`: the map is `attribution` * `scale`, a
    power of two that brings the largest magnitude into (0.5, 1]. Relative error at most 2^-11 for values from 6.1e-5 of
    `scale`, absolute error at most 3e-8 of `scale` for smaller ones.

    Args:
        dtype: `float32` or `float16`.
        compressed: Whether the file is deflated.

    Raises:
        UserError: If `dtype` is another one.
    """

    dtype: str = "float32"
    compressed: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(f"callbacks.attribution.dtype={self.dtype} must be one of {', '.join(DTYPES)}")

    def __str__(self) -> str:
        return f"{self.dtype}, compressed" if self.compressed else self.dtype

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
        content, values = io.BytesIO(), attribution.numpy()
        if self.suffix == ".npy":
            np.save(content, values)
            return content.getvalue()
        arrays: dict[str, Any] = {KEY: values}
        if self.dtype == "float16":
            largest = float(np.abs(values, where=np.isfinite(values), out=np.zeros_like(values)).max(initial=0))
            scale = np.float32(2.0 ** np.ceil(np.log2(largest))) if largest else np.float32(1)
            arrays = {KEY: (values / scale).astype(np.float16), "scale": scale}
        (np.savez_compressed if self.compressed else np.savez)(content, **arrays)
        return content.getvalue()


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
    stored, name = RunFolder(folder), f"{FOLDER}/{image}"
    try:
        file, name = stored.open(f"{name}.npy"), f"{name}.npy"
    except FileNotFoundError:
        file, name = stored.open(f"{name}.npz"), f"{name}.npz"
    with file:
        try:
            return torch.from_numpy(_read_packed_map(file) if name.endswith(".npz") else _check_map(_read_array(file)))
        except Exception as error:  # damaged headers and archives raise errors of any kind
            raise UserError(f"{folder / name} is not the map of a run: {error or type(error).__name__}") from None


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


WAITING = 16
"""Figures that may wait to be drawn; their number bounds the memory."""


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
        self._pending: deque[Future[Path]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    def add(self, name: str, draw: Callable[[], Drawn]) -> Future[Path]:
        """Draw a figure and write it as a PNG file; waits while too many files are not yet written.

        Args:
            name: Of the file, in the folder.
            draw: Returns the figure.

        Returns:
            Done when the file is written.
        """
        return self.run(lambda: self.folder.write_bytes(name, encode_figure(draw())))

    def run(self, write: Callable[[], Path]) -> Future[Path]:
        """Write any file; waits as `add` does.

        Args:
            write: Writes the file and returns its path.

        Returns:
            Done when the file is written.
        """
        while self._pending and (self._pending[0].done() or len(self._pending) >= self.waiting):
            self._pending.popleft().result()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="figures")
        self._pending.append(self._thread.submit(write))
        return self._pending[-1]

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
