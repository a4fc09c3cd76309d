"""The gallery of one model: scores of every image, and its pictures in a block of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from seewhy.report.comparison import Comparison
from seewhy.report.html.embed import dump_script_json, encode_base64
from seewhy.report.html.maps import PROBES, Map, choose_map_side, compute_agreement, encode_map
from seewhy.report.joining import CONTROLS
from seewhy.report.runs import Run, read_map, read_preview


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
