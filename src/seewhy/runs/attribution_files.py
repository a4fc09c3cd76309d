"""How an attribution map is stored."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seewhy.core.errors import UserError
from seewhy.core.types import Attributions

FORMS = {"float32": np.float32, "float16": np.float16}
KEY = "attribution"
"""Of the map in an npz file."""


@dataclass(frozen=True)
class AttributionFormat:
    """`<image>.npy`, or `<image>.npz` (deflate; key `attribution`) where `compressed`.

    `float16` halves the bytes, and the file is an npz with a second key `scale`: the map is `attribution` * `scale`, a
    power of two that brings the largest magnitude into (0.5, 1]. Relative error at most 2^-11 for values from 6.1e-5 of
    `scale`, absolute error at most 3e-8 of `scale` for smaller ones.
    """

    dtype: str = "float32"
    compressed: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in FORMS:
            raise UserError(f"callbacks.attribution.dtype={self.dtype} must be one of {', '.join(FORMS)}")

    @property
    def suffix(self) -> str:
        """Of the file's name."""
        return ".npz" if self.compressed or self.dtype == "float16" else ".npy"

    @property
    def words(self) -> str:
        """Such as `float16, compressed`."""
        return f"{self.dtype}, compressed" if self.compressed else self.dtype

    def to_bytes(self, attribution: Attributions) -> bytes:
        """The file of one map [height, width]."""
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
    """The map float32 [height, width] of an image of a run folder, however it is stored."""
    place = folder / "attributions"
    plain = place / f"{image}.npy"
    if plain.is_file():
        return torch.from_numpy(np.load(plain))
    with np.load(place / f"{image}.npz") as file:
        values = file[KEY].astype(np.float32)
        return torch.from_numpy(values * file["scale"] if "scale" in file else values)
