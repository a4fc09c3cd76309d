"""Attribution files: the form in which a run stores its maps, and how they are read back."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seewhy.core.errors import UserError
from seewhy.core.types import Attributions

DTYPES = ("float32", "float16")
FOLDER = "attributions"
KEY = "attribution"
"""Of the map in an npz file."""


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
    """
    plain = folder / FOLDER / f"{image}.npy"
    if plain.is_file():
        return torch.from_numpy(np.load(plain))
    with np.load(folder / FOLDER / f"{image}.npz") as file:
        values = file[KEY].astype(np.float32)
        return torch.from_numpy(values * file["scale"] if "scale" in file else values)
