"""What a page embeds: maps as small grey pictures that a browser colours, data as JSON, pictures as addresses."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from seewhy.plots import heatmaps

SIDES = (256, 224, 160, 112, 96, 80, 64, 48)
"""Sides in pixels that maps on a page may have, largest first."""
BUDGET = 30_000_000
"""Bytes that all maps of a page may take before base64 makes them a third larger."""
PROBES = 24
"""Maps that are encoded to learn how large they become."""
ZERO = 128
"""The grey of the value 0 in the picture of a signed map; 1 is 255 and -1 is 1. Of unsigned maps 0 is 0 and 1 is 255."""
COARSE = 56
"""Maps are averaged down to this side before they are compared: methods differ in grain where they agree on the place."""
Map = NDArray[np.float32]


class EncodedMap(NamedTuple):
    """A map that is ready for a page.

    Attributes:
        picture: PNG of 8-bit greys; empty where the map cannot be drawn.
        scale: The absolute value at which colours saturate, as in the figures.
        flaw: Why the map cannot be drawn.
    """

    picture: bytes
    scale: float
    flaw: str


def encode_map(attribution: Map, signed: bool, side: int, outlier_percent: float = 2.0) -> EncodedMap:
    """Encode the values that figures colour as a grey picture.

    Args:
        attribution: float32 [height, width].
        signed: Whether negative values mean something.
        side: The picture is averaged down to at most this many pixels a side.
        outlier_percent: Share of the attribution mass that saturates the colours, in [0, 100).

    Returns:
        The picture, or why there is none.
    """
    tensor = torch.from_numpy(attribution)
    scale = heatmaps.compute_scale(tensor, outlier_percent)
    if not scale:
        return EncodedMap(b"", 0.0, heatmaps.describe_flaw(tensor))
    small = shrink(heatmaps.normalise(tensor, scale, signed), side)
    greys = ZERO + np.rint(127 * small) if signed else np.rint(255 * small)
    content = io.BytesIO()
    Image.fromarray(greys.astype(np.uint8)).save(content, format="PNG", compress_level=6)
    return EncodedMap(content.getvalue(), scale, "")


def shrink(values: Map, side: int) -> Map:
    """Average a map over boxes.

    Args:
        values: float32 [height, width].
        side: Largest side of the result.

    Returns:
        float32 of at most `side` pixels a side; the map itself where it is small enough.
    """
    height, width = values.shape
    factor = side / max(height, width)
    if factor >= 1:
        return values
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    boxes: Map = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX))
    return boxes


def choose_map_side(sample: Sequence[tuple[Map, bool]], count: int, budget: int = BUDGET) -> int:
    """Choose how large maps are on a page.

    Args:
        sample: (map, signed) of some maps.
        count: Number of maps on the page.
        budget: Bytes that they may take.

    Returns:
        The largest of `SIDES` at which `count` maps like the sample fit into the budget; the smallest if none does.
    """
    for side in SIDES:
        sizes = [len(encode_map(attribution, signed, side).picture) for attribution, signed in sample]
        if not sizes or np.mean(sizes) * count <= budget:
            return side
    return SIDES[-1]


TWINS = 0.9
"""Methods whose maps correlate by more than this on average count as one when agreement is averaged."""


@dataclass(frozen=True)
class MapPairs:
    """How the maps of one image relate, pair by pair.

    Args:
        correlations: Spearman's rank correlation [maps, maps]; NaN where a map has no order, and on the diagonal.
        conflicts: Share of the most supporting tenth of the row's map that is negative in that of the column
            [maps, maps]; NaN where the row's map has no direction or the column's no sign.
    """

    correlations: NDArray[np.float64]
    conflicts: NDArray[np.float64]

    def average(self, groups: Sequence[Sequence[int]]) -> float:
        """Average the correlations over pairs of groups, each group of near twins counting as one.

        Args:
            groups: Positions of maps, such as those of `group_twins`.

        Returns:
            The mean; NaN where there are no two groups with a value.
        """
        means = []
        for one, other in combinations(groups, 2):
            values = self.correlations[np.ix_(one, other)]
            if np.isfinite(values).any():
                means.append(float(np.nanmean(values)))
        return float(np.mean(means)) if means else math.nan


def relate_maps(maps: Sequence[tuple[Map, bool, bool]]) -> MapPairs:
    """Relate the maps of one image, averaged to 56 pixels a side.

    Two maps that say where the evidence for the target is (signed, or rectified as those of class activation maps) are
    compared with their signs; where one holds magnitudes, magnitudes are compared. Maps that are constant or not finite
    have no order.

    Args:
        maps: (map [height, width], whether it is signed, whether it has a direction) of one image, of one size.

    Returns:
        Correlations and sign conflicts.
    """
    count = len(maps)
    correlations, conflicts = np.full((count, count), np.nan), np.full((count, count), np.nan)
    small = [shrink(values, COARSE) if np.isfinite(values).all() else None for values, _, _ in maps]
    ranked = [(None, None) if each is None else (_rank_values(each), _rank_values(np.abs(each))) for each in small]
    directed = [direction for _, _, direction in maps]
    tops = [
        _find_top(each) if each is not None and direction else None
        for each, direction in zip(small, directed, strict=True)
    ]
    for one, other in permutations(range(count), 2):
        way = 0 if directed[one] and directed[other] else 1
        left, right = ranked[one][way], ranked[other][way]
        if left is not None and right is not None and len(left) == len(right):
            correlations[one, other] = float(left @ right)
        top, against = tops[one], small[other]
        if top is not None and against is not None and maps[other][1] and top.shape == against.shape and top.any():
            conflicts[one, other] = float((against[top] < 0).mean())
    return MapPairs(correlations, conflicts)


def compute_agreement(maps: Sequence[tuple[Map, bool]]) -> float:
    """Average Spearman's rank correlation over all pairs of maps, see `relate_maps`.

    Args:
        maps: (map [height, width], whether it has a direction) of one image.

    Returns:
        1 where all have the same order, 0 where there is no relation; NaN where no pair is left.
    """
    pairs = relate_maps([(values, directed, directed) for values, directed in maps])
    return pairs.average([[position] for position in range(len(maps))])


def group_twins(pairs: Sequence[MapPairs]) -> list[list[int]]:
    """Group methods whose maps are nearly the same, so that they do not outvote the others.

    Args:
        pairs: Of each image.

    Returns:
        Positions of methods; in a group each correlates with another by more than `TWINS`, averaged over the images.
    """
    if not pairs:
        return []
    stack = np.stack([each.correlations for each in pairs])
    known = np.isfinite(stack).sum(0)
    means = np.where(known > 0, np.nansum(stack, axis=0) / np.maximum(known, 1), 0)
    groups: list[list[int]] = []
    for position in range(len(means)):
        near = [group for group in groups if any(means[position, other] > TWINS for other in group)]
        groups = [group for group in groups if group not in near] + [
            sorted([position, *(other for group in near for other in group)])
        ]
    return sorted(groups)


def _find_top(values: Map) -> NDArray[np.bool_]:
    """The most supporting tenth of a map, as far as it is positive."""
    limit = np.partition(values, -max(1, values.size // 10), axis=None)[-max(1, values.size // 10)]
    top: NDArray[np.bool_] = (values >= limit) & (values > 0)
    return top


def _rank_values(small: Map) -> NDArray[np.float64] | None:
    """Centred ranks of length 1, so that a product is a correlation; None for a constant map."""
    if small.min() == small.max():
        return None
    ranks = stats.rankdata(small, axis=None)
    ranks = ranks - ranks.mean()
    unit: NDArray[np.float64] = ranks / np.linalg.norm(ranks)
    return unit


LARGE = 250_000
KINDS = {b"\x89PNG": "png", b"RIFF": "webp"}
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def encode_base64(content: bytes) -> str:
    """Encode bytes in the letters that HTML and JSON leave alone."""
    return base64.b64encode(content).decode("ascii")


def build_data_url(picture: bytes) -> str:
    """Turn a PNG or WebP into the address of an image."""
    return f"data:image/{KINDS[picture[:4]]};base64,{encode_base64(picture)}"


def compress_figure(picture: bytes, side: int | None = None) -> bytes:
    """Turn a large PNG into a WebP of a third of its size; leave a small one, where the saving is not worth the time.

    Args:
        picture: PNG.
        side: Largest side in pixels; None: as it is.

    Returns:
        PNG or WebP.
    """
    if len(picture) <= LARGE:
        return picture
    content = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    if side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.save(content, format="WEBP", quality=88, method=1)
    return content.getvalue()


def dump_script_json(content: Any) -> Markup:
    """Write JSON for a script element: no text in it can end the element; NaN and infinity become null."""
    text = json.dumps(_finite(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign, escaped in ESCAPES.items():
        text = text.replace(sign, escaped)
    return Markup(text)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
