"""The checksum of TensorBoard's files, for megabytes: all stretches of the data at once instead of byte after byte.

The mean perturbation curves of a run as points for TensorBoard.
One row of TensorBoard's HPARAMS tab: what was chosen for a run, and what came out.
A picture for TensorBoard.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from numpy.typing import NDArray
from PIL import Image

from seewhy.explainers.base import Explainer
from seewhy.runs.batch_results import CurveRow
from seewhy.runs.journal import Journal

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, reflected (RFC 3720, 12.1)."""
STRETCH = 8
"""Bytes that each number of the register goes through, as a power of two."""
ONES = 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The CRC-32C of at least four bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    stretches = -(-len(data) >> STRETCH)
    padded = np.zeros(stretches << STRETCH, np.uint8)
    start = len(padded) - len(data)  # zeros in front change nothing, as the register begins with zeros ...
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start : start + 4] ^= 255  # ... and this is the same as one that begins with ones
    register: NDArray[np.uint32] = np.zeros(stretches, np.uint32)
    for step in np.ascontiguousarray(padded.view("<u2").reshape(stretches, -1).T):
        register = _two_bytes()[(register ^ step) & 0xFFFF] ^ (register >> np.uint32(16))
    length = STRETCH
    while len(register) > 1:
        register = np.concatenate([np.zeros(len(register) % 2, np.uint32), register])
        register = _applied(_zeros(length), register[::2]) ^ register[1::2]
        length += 1
    return int(register[0]) ^ ONES


@cache
def _two_bytes() -> NDArray[np.uint32]:
    """What the register becomes that holds a number below 65536, two bytes of zeros later."""
    register: NDArray[np.uint32] = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        register = (register >> np.uint32(1)) ^ np.where(register & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return register


@cache
def _zeros(length: int) -> NDArray[np.uint32]:
    """What each bit of the register becomes, 2 ** length bytes of zeros later."""
    if length:
        half = _zeros(length - 1)
        return _applied(half, half)
    register: NDArray[np.uint32] = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(8):
        register = (register >> np.uint32(1)) ^ np.where(register & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return register


def _applied(change: NDArray[np.uint32], register: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The change, which is linear, of every number of the register."""
    changed = np.zeros_like(register)
    for bit, becomes in enumerate(change):
        changed ^= np.where((register >> np.uint32(bit)) & 1, becomes, np.uint32(0))
    return changed


def curve_points(journal: Journal) -> Iterator[tuple[str, int, float]]:
    """(tag, percentage of the pixels, mean over the images that reach it) of every perturbation curve."""
    rows = [row for entry in journal.entries() for row in entry.curves]
    if not rows:
        return
    import pandas as pd  # takes longer than all else here, and a run without metrics needs no table

    from seewhy.plots.curves import GRID, resample_curves

    table = pd.DataFrame(rows, columns=list(CurveRow._fields))
    for curve, part in table.groupby("curve"):
        for quantity in ("probability", "logit"):
            values = resample_curves(part, quantity)
            for share, column in zip(GRID, values.T, strict=True):
                if np.isfinite(column).any():
                    yield f"curves/{curve}/{quantity}", round(100 * share), float(np.nanmean(column))


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


SHORT = 4096
"""Bytes up to which TensorBoard's own checksum is quicker."""


def log_picture(loggers: Iterable[Logger], tag: str, png: bytes, step: int = 0) -> None:
    """Add a PNG file as it is to every TensorBoard logger, at the training step of the network that it shows."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    _quicken()
    width, height = Image.open(io.BytesIO(png)).size
    image = Summary.Image(height=height, width=width, colorspace=len("RGBA"), encoded_image_string=png)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.file_writer.add_summary(summary, step)


def _quicken() -> None:
    """Let TensorBoard's writer take its checksums from numpy: a loop over bytes needs a quarter of a second a megabyte."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
    from tensorboard.summary.writer import record_writer

    def checksum(data: bytes) -> int:
        if len(data) <= SHORT:
            return int(masked_crc32c(data))
        value = crc32c(data)
        return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    record_writer.masked_crc32c = checksum
