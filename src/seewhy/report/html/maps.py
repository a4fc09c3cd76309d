"""Attribution maps as small grey pictures that a browser colours, and how far maps of one image agree."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from seewhy.plots import heatmaps

SIDES = (256, 224, 160, 112, 96, 80, 64, 48)


BUDGET = 30_000_000
"""Bytes that all maps of a page may take before base64 makes them a third larger."""


PROBES = 24


ZERO = 128
"""The grey of the value 0 in the picture of a signed map; 1 is 255 and -1 is 1. Of unsigned maps 0 is 0 and 1 is 255."""


Map = NDArray[np.float32]


class EncodedMap(NamedTuple):
    """A map that is ready for a page."""

    picture: bytes
    """PNG of 8-bit greys; empty where the map cannot be drawn."""
    scale: float
    """The absolute value at which colours saturate, as in the figures."""
    flaw: str
    """Why the map cannot be drawn."""


def encode_map(attribution: Map, signed: bool, side: int, outlier_percent: float = 2.0) -> EncodedMap:
    """The values that figures colour, averaged down to at most `side` pixels a side, as greys."""
    tensor = torch.from_numpy(attribution)
    scale = heatmaps.compute_scale(tensor, outlier_percent)
    if not scale:
        return EncodedMap(b"", 0.0, heatmaps.describe_flaw(tensor))
    small = shrink(heatmaps.normalise(tensor, scale, signed), side)
    greys = ZERO + np.rint(127 * small) if signed else np.rint(255 * small)
    content = io.BytesIO()
    Image.fromarray(greys.astype(np.uint8)).save(content, format="PNG", compress_level=6)
    return EncodedMap(content.getvalue(), scale, "")


def decode_map(picture: bytes, signed: bool) -> Map:
    """The normalised values in a picture of `paint`, float32 [height, width]: what the page colours."""
    greys: Map = np.asarray(Image.open(io.BytesIO(picture)), np.float32)
    values: Map = (greys - ZERO) / np.float32(127) if signed else greys / np.float32(255)
    return values


def shrink(values: Map, side: int) -> Map:
    """float32 [height, width] averaged over boxes to at most `side` pixels a side; unchanged where it is small enough."""
    height, width = values.shape
    factor = side / max(height, width)
    if factor >= 1:
        return values
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    made: Map = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX))
    return made


def choose_map_side(sample: Sequence[tuple[Map, bool]], count: int, budget: int = BUDGET) -> int:
    """The largest of `SIDES` at which `count` maps like the (map, signed) of the sample fit into the budget of bytes."""
    for side in SIDES:
        sizes = [len(encode_map(attribution, signed, side).picture) for attribution, signed in sample]
        if not sizes or np.mean(sizes) * count <= budget:
            return side
    return SIDES[-1]


SIDE = 56
"""Maps are averaged down to this side first: methods differ in grain where they agree on the place."""


def compute_agreement(maps: Sequence[tuple[Map, bool]]) -> float:
    """Mean of Spearman's rank correlation over all pairs of (map [height, width], signed): 1 the same order, 0 none.

    Pairs in which one map is unsigned compare magnitudes, as such a map cannot say "against". Maps that are constant or
    not finite have no order and take no part. NaN where no pair is left.
    """
    ordered = [(_ranks(one), _ranks(np.abs(one)), signed) for one, signed in maps if np.isfinite(one).all()]
    found = []
    for (plain, size, signed), (other_plain, other_size, other_signed) in combinations(ordered, 2):
        both = signed and other_signed
        one, other = (plain, other_plain) if both else (size, other_size)
        if one is not None and other is not None and len(one) == len(other):
            found.append(float(one @ other))
    return float(np.mean(found)) if found else float("nan")


def _ranks(values: Map) -> NDArray[np.float64] | None:
    """Centred ranks of length 1, so that a product is a correlation; None for a constant map."""
    small = shrink(values, SIDE)
    if small.min() == small.max():
        return None
    ranks = stats.rankdata(small, axis=None)
    ranks = ranks - ranks.mean()
    made: NDArray[np.float64] = ranks / np.linalg.norm(ranks)
    return made
