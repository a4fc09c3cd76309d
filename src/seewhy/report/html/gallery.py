"""How far methods agree on an image.

Attribution maps as small grey pictures that a browser only has to colour.
The gallery of one model: what the page knows of every image, and the pictures of each in a block of its own.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from seewhy.plots import heatmaps
from seewhy.report.comparison import CONTROLS, Comparison
from seewhy.report.html.embed import dump_script_json, encode_base64
from seewhy.report.runs import Run, read_map, read_preview

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


@dataclass(frozen=True)
class Gallery:
    """What the scripts of the page work on."""

    facts: dict[str, Any]
    """explainers, metrics, images and their scores, ready for JSON"""
    blocks: list[Markup]
    """per image: JSON of the preview and the maps, in base64"""
    flaws: list[tuple[str, str, str]]
    """(explainer, image, why its map cannot be drawn)"""


@dataclass(frozen=True)
class Method:
    """One explainer of the gallery."""

    label: str
    run: Run
    signed: bool
    control: bool


def build_gallery(comparison: Comparison, methods: Sequence[Method], maps: int) -> Gallery:
    """The gallery of one model; `maps` is the number of maps on the whole page, which share one budget of bytes."""
    first = methods[0].run
    images = [str(name) for name in first.predictions.index]
    side = choose_map_side(_sample(methods, images), maps)
    blocks, rows, flaws = [], [], []
    for image in images:
        found = [read_map(method.run.folder, image) for method in methods]
        painted = [
            None if one is None else encode_map(one, method.signed, side)
            for one, method in zip(found, methods, strict=True)
        ]
        agreed = compute_agreement(
            [
                (one, method.signed)
                for one, method in zip(found, methods, strict=True)
                if one is not None and not method.control
            ]
        )
        picture = next(filter(None, (read_preview(method.run.folder, image) for method in methods)), b"")
        blocks.append(
            dump_script_json([encode_base64(picture), [encode_base64(one.picture) if one else "" for one in painted]])
        )
        flaw = ["no map was stored" if one is None else one.flaw for one in painted]
        flaws += [
            (method.label, image, one.flaw) for method, one in zip(methods, painted, strict=True) if one and one.flaw
        ]
        rows.append(_image(first, image, agreed, flaw, [one.scale if one else 0.0 for one in painted]))
    facts = {
        "model": comparison.joined.model,
        "side": side,
        "explainers": [{"name": one.label, "signed": one.signed, "control": one.control} for one in methods],
        "metrics": _metrics(comparison),
        "images": rows,
        "scores": _scores(comparison, images, [method.label for method in methods]),
    }
    return Gallery(facts, blocks, flaws)


def list_methods(comparison: Comparison, runs: Sequence[Run]) -> list[Method]:
    """The explainers in the order of the leaderboard with the runs that they come from."""
    folders = {str(run.folder): run for run in runs}
    made = []
    for label in comparison.leaderboard.index:
        run = folders[str(comparison.joined.explainers.loc[label, "folder"])]
        made.append(Method(str(label), run, is_signed(run), run.explainer in CONTROLS))
    return made


def is_signed(run: Run) -> bool:
    """As the record says; where it is an old one, whether a map has negative values."""
    known = run.record["explainer"].get("signed")
    if known is not None:
        return bool(known)
    maps = (read_map(run.folder, str(image)) for image in run.predictions.index)
    return any(bool((one < 0).any()) for one in maps if one is not None)


def _sample(methods: Sequence[Method], images: Sequence[str]) -> list[tuple[Map, bool]]:
    """Maps of every method, of images spread over the run."""
    each = max(1, math.ceil(PROBES / max(1, len(methods))))
    places = np.unique(np.linspace(0, len(images) - 1, each).astype(int))
    pairs = [(read_map(method.run.folder, images[place]), method.signed) for method in methods for place in places]
    return [(one, signed) for one, signed in pairs if one is not None]


def _image(run: Run, image: str, agreed: float, flaws: list[str], scales: list[float]) -> dict[str, Any]:
    row = run.predictions.loc[image]
    return {
        "name": image,
        **{key: str(row[key]) for key in ("label", "predicted", "correct", "target")},
        "probability": _number(row["probability"]),
        "target_probability": _number(row["target_probability"]),
        "agreement": agreed,
        "flaws": flaws,
        "scales": [float(f"{scale:.4g}") for scale in scales],
    }


def _number(text: object) -> float:
    return float(str(text)) if str(text) else math.nan


def _metrics(comparison: Comparison) -> list[dict[str, str]]:
    """Those with a direction first."""
    names = sorted(set(comparison.joined.table["metric"]), key=lambda name: (name not in comparison.ranks, name))
    return [{"name": name, "better": _better(comparison, name)} for name in names]


def _better(comparison: Comparison, metric: str) -> str:
    fact = comparison.joined.facts.get(metric)
    return (fact.better or "") if fact else ""


def _scores(comparison: Comparison, images: list[str], labels: list[str]) -> dict[str, list[list[float]]]:
    """{metric: [images, explainers]} of metrics.csv; NaN where there is no value."""
    found = {}
    for metric, part in comparison.joined.table.groupby("metric"):
        wide = part.pivot(index="image", columns="explainer", values="value").reindex(index=images, columns=labels)
        found[str(metric)] = wide.to_numpy(float).tolist()
    return found
