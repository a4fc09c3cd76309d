"""Attribution maps as small grey pictures that a browser only has to colour."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from seewhy import views

SIDES = (256, 224, 160, 112, 96, 80, 64, 48)
BUDGET = 30_000_000
"""Bytes that all maps of a page may take before base64 makes them a third larger."""
PROBES = 24
ZERO = 128
"""The grey of the value 0 in the picture of a signed map; 1 is 255 and -1 is 1. Of unsigned maps 0 is 0 and 1 is 255."""
Map = NDArray[np.float32]


class Painted(NamedTuple):
    """A map that is ready for a page."""

    picture: bytes
    """PNG of 8-bit greys; empty where the map cannot be drawn."""
    scale: float
    """The absolute value at which colours saturate, as in the figures."""
    flaw: str
    """Why the map cannot be drawn."""


def paint(attribution: Map, signed: bool, side: int, outlier_percent: float = 2.0) -> Painted:
    """The values that figures colour, averaged down to at most `side` pixels a side, as greys."""
    tensor = torch.from_numpy(attribution)
    scale = views.scale(tensor, outlier_percent)
    if not scale:
        return Painted(b"", 0.0, views.flaw(tensor))
    small = shrunk(views.normalise(tensor, scale, signed), side)
    greys = ZERO + np.rint(127 * small) if signed else np.rint(255 * small)
    content = io.BytesIO()
    Image.fromarray(greys.astype(np.uint8)).save(content, format="PNG", compress_level=6)
    return Painted(content.getvalue(), scale, "")


def values_of(picture: bytes, signed: bool) -> Map:
    """The normalised values in a picture of `paint`, float32 [height, width]: what the page colours."""
    greys: Map = np.asarray(Image.open(io.BytesIO(picture)), np.float32)
    values: Map = (greys - ZERO) / np.float32(127) if signed else greys / np.float32(255)
    return values


def shrunk(values: Map, side: int) -> Map:
    """float32 [height, width] averaged over boxes to at most `side` pixels a side; unchanged where it is small enough."""
    height, width = values.shape
    factor = side / max(height, width)
    if factor >= 1:
        return values
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    made: Map = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX))
    return made


def map_side(sample: Sequence[tuple[Map, bool]], count: int, budget: int = BUDGET) -> int:
    """The largest of `SIDES` at which `count` maps like the (map, signed) of the sample fit into the budget of bytes."""
    for side in SIDES:
        sizes = [len(paint(attribution, signed, side).picture) for attribution, signed in sample]
        if not sizes or np.mean(sizes) * count <= budget:
            return side
    return SIDES[-1]
