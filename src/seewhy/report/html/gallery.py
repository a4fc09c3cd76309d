"""The gallery of one model: scores of every image, and its pictures in a block of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from seewhy.report.comparison import CONTROLS, Comparison
from seewhy.report.html.maps import (
    PROBES,
    EncodedMap,
    Map,
    choose_map_side,
    compute_agreement,
    dump_script_json,
    encode_base64,
    encode_map,
)
from seewhy.report.runs import Run, read_map, read_preview
from seewhy.statistics.schema import list_draws


@dataclass(frozen=True)
class Gallery:
    """What the scripts of the page work on.

    Args:
        facts: Explainers, metrics, images and their scores, ready for JSON.
        blocks: Per image JSON of the preview and the maps, in base64.
        flaws: (explainer, image, why its map cannot be drawn).
    """

    facts: dict[str, Any]
    blocks: list[Markup]
    flaws: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Method:
    """One explainer of the gallery.

    Args:
        label: In the comparison.
        run: Where its maps lie.
        signed: Whether negative values mean something.
        control: Whether it is a control.
    """

    label: str
    run: Run
    signed: bool
    control: bool


def build_gallery(comparison: Comparison, methods: Sequence[Method], maps: int) -> Gallery:
    """Build the gallery of one model.

    Args:
        comparison: Of its explainers.
        methods: In the order of the page.
        maps: Number of maps on the whole page, which share one budget of bytes.

    Returns:
        The gallery.
    """
    images = [str(name) for name in methods[0].run.predictions.index]
    side = choose_map_side(_sample_maps(methods, images), maps)
    blocks, rows, flaws = [], [], []
    for image in images:
        encoded, agreement = _encode_maps(methods, image, side)
        preview = next(filter(None, (read_preview(method.run.folder, image) for method in methods)), b"")
        maps_of_image = [encode_base64(each.picture) for each in encoded]
        blocks.append(dump_script_json([encode_base64(preview), maps_of_image]))
        stored = [each for each in zip(methods, encoded, strict=True) if each[1] is not MISSING]
        flaws += [(method.label, image, each.flaw) for method, each in stored if each.flaw]
        rows.append(_describe_image(methods[0].run, image, agreement, encoded))
    facts = {
        "model": comparison.joined.model,
        "side": side,
        "explainers": [
            {"name": method.label, "signed": method.signed, "control": method.control} for method in methods
        ],
        "metrics": _list_metrics(comparison),
        "images": rows,
        "scores": _collect_scores(comparison, images, [method.label for method in methods]),
    }
    return Gallery(facts, blocks, flaws)


MISSING = EncodedMap(b"", 0.0, "no map was stored")


def _encode_maps(methods: Sequence[Method], image: str, side: int) -> tuple[list[EncodedMap], float]:
    """The maps of an image, and how far those of methods that are no controls agree."""
    encoded, compared = [], []
    for method in methods:
        attribution = read_map(method.run.folder, image)
        encoded.append(MISSING if attribution is None else encode_map(attribution, method.signed, side))
        if attribution is not None and not method.control:
            compared.append((attribution, method.signed))
    return encoded, compute_agreement(compared)


def list_methods(comparison: Comparison, runs: Sequence[Run]) -> list[Method]:
    """List the explainers in the order of the leaderboard.

    Args:
        comparison: Of the explainers of one model.
        runs: Its runs.

    Returns:
        Each with its run.
    """
    folders = {str(run.folder): run for run in runs}
    pairs = [
        (label, folders[str(comparison.joined.explainers.loc[label, "folder"])]) for label in comparison.explainers
    ]
    return [Method(label, run, is_signed(run), run.explainer in CONTROLS) for label, run in pairs]


def is_signed(run: Run) -> bool:
    """Whether the maps of a run are signed; where its record is too old to say so, whether one has negative values."""
    recorded = run.record["explainer"].get("signed")
    if recorded is not None:
        return bool(recorded)
    maps = (read_map(run.folder, str(image)) for image in run.predictions.index)
    return any(bool((attribution < 0).any()) for attribution in maps if attribution is not None)


def _sample_maps(methods: Sequence[Method], images: Sequence[str]) -> list[tuple[Map, bool]]:
    """Maps of every method, of images spread over the run."""
    each = max(1, math.ceil(PROBES / max(1, len(methods))))
    rows = np.unique(np.linspace(0, len(images) - 1, each).astype(int))
    pairs = [(read_map(method.run.folder, images[row]), method.signed) for method in methods for row in rows]
    return [(attribution, signed) for attribution, signed in pairs if attribution is not None]


def _describe_image(run: Run, image: str, agreement: float, encoded: Sequence[EncodedMap]) -> dict[str, Any]:
    row = run.predictions.loc[image]
    return {
        "name": image,
        **{key: str(row[key]) for key in ("label", "predicted", "correct", "target")},
        "probability": _read_number(row["probability"]),
        "target_probability": _read_number(row["target_probability"]),
        "agreement": agreement,
        "flaws": [each.flaw for each in encoded],
        "scales": [float(f"{each.scale:.4g}") for each in encoded],
    }


def _read_number(text: object) -> float:
    return float(str(text)) if str(text) else math.nan


def _list_metrics(comparison: Comparison) -> list[dict[str, str]]:
    """Those with a direction first, without the columns of single random networks."""
    facts = comparison.joined.facts
    names = sorted(
        set(comparison.joined.table["metric"]) - list_draws(facts),
        key=lambda name: (name not in comparison.ranks, name),
    )
    return [{"name": name, "better": (facts[name].better or "") if name in facts else ""} for name in names]


def _collect_scores(comparison: Comparison, images: list[str], labels: list[str]) -> dict[str, list[list[float]]]:
    """{metric: [images, explainers]} of metrics.csv; NaN where there is no value."""
    return {
        str(metric): rows.pivot(index="image", columns="explainer", values="value")
        .reindex(index=images, columns=labels)
        .to_numpy(float)
        .tolist()
        for metric, rows in comparison.joined.table.groupby("metric")
        if metric not in list_draws(comparison.joined.facts)
    }
