"""The gallery of one model: scores of every image, and its pictures in a block of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from seewhy.core.target_choice import name_image
from seewhy.explainers.completeness import describe_completeness_gap
from seewhy.plots.curves import choose_quantity, describe_quantity, name_share
from seewhy.plots.text import format_probability
from seewhy.report.comparison import CONTROLS, Comparison
from seewhy.report.html.maps import (
    PROBES,
    EncodedMap,
    Map,
    MapPairs,
    choose_map_side,
    dump_script_json,
    encode_base64,
    encode_map,
    group_twins,
    relate_maps,
)
from seewhy.report.runs import Run, read_map, read_preview, read_warnings
from seewhy.statistics.schema import list_draws

GAP = "completeness_gap_relative"
CURVE_VALUES = 1_000_000
"""Values that all curves of a page may have, some five bytes each; of curves with more every k-th point is kept."""
LEAST_POINTS = 11
Curve = list[list[float]]
"""[values], or [values, shares] where the shares are others than those of the page."""


@dataclass(frozen=True)
class Gallery:
    """What the scripts of the page work on.

    Args:
        facts: Explainers, metrics, images and their scores, ready for JSON.
        blocks: Per image JSON of the preview and the maps, in base64, and of its own curves.
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
        rectified: Whether a map that is not signed holds the evidence for the target, not magnitudes.
    """

    label: str
    run: Run
    signed: bool
    control: bool
    rectified: bool = False

    @property
    def directed(self) -> bool:
        """Whether the largest values of a map are evidence for the target."""
        return self.signed or self.rectified


def build_gallery(
    comparison: Comparison, methods: Sequence[Method], maps: int, curves: Mapping[str, pd.DataFrame] | None = None
) -> Gallery:
    """Build the gallery of one model.

    Args:
        comparison: Of its explainers.
        methods: In the order of the page.
        maps: Number of maps on the whole page, which share one budget of bytes.
        curves: {label: curves.csv} of the methods that have one.

    Returns:
        The gallery.
    """
    images = [str(name) for name in methods[0].run.predictions.index]
    side = choose_map_side(_sample_maps(methods, images), maps)
    drawn, own = collect_curves(curves or {}, [method.label for method in methods], maps)
    blocks, rows, flaws, pairs = [], [], [], []
    concerns = list_concerns(comparison, methods)
    gaps = {(method.label, image): gap for method in methods for image, gap, _ in list_gaps(comparison, method)}
    for image in images:
        encoded, related = _encode_maps(methods, image, side)
        pairs.append(related)
        preview = next(filter(None, (read_preview(method.run.folder, image) for method in methods)), b"")
        maps_of_image = [encode_base64(each.picture) for each in encoded]
        blocks.append(dump_script_json([encode_base64(preview), maps_of_image, own.get(image, [])]))
        stored = [each for each in zip(methods, encoded, strict=True) if each[1] is not MISSING]
        flaws += [(method.label, image, each.flaw) for method, each in stored if each.flaw]
        rows.append(_describe_image(methods[0].run, image, encoded, concerns.get(image, [""] * len(methods))))
    compared = [method for method in methods if not method.control]
    twins = group_twins(pairs)
    for row, related in zip(rows, pairs, strict=True):
        row["agreement"] = related.average(twins)
        row["conflict"] = _find_conflict(related, compared)
        row["gap"] = max((gaps.get((method.label, row["name"]), 0.0) for method in methods), default=0.0)
    facts = {
        "model": comparison.joined.model,
        "side": side,
        "explainers": [
            {
                "name": method.label,
                "signed": method.signed,
                "rectified": method.rectified,
                "control": method.control,
                "parameters": str(method.run.record["explainer"].get("parameters", "")),
                "folder": str(method.run.folder),
            }
            for method in methods
        ],
        "twins": [[compared[position].label for position in group] for group in twins if len(group) > 1],
        "curves": drawn,
        "metrics": _list_metrics(comparison),
        "images": rows,
        "scores": _collect_scores(comparison, images, [method.label for method in methods]),
    }
    return Gallery(facts, blocks, flaws)


def collect_curves(
    tables: Mapping[str, pd.DataFrame], labels: Sequence[str], maps: int
) -> tuple[list[dict[str, Any]], dict[str, list[list[Curve | None]]]]:
    """Collect the perturbation curves of single images.

    Args:
        tables: {label: curves.csv}.
        labels: Of the methods, in the order of the page.
        maps: Number of maps on the whole page, whose curves share one budget.

    Returns:
        (name, quantity, axis and shares of each curve, {image: for each curve and method its points, as in curves.csv}).
    """
    names = sorted({str(name) for table in tables.values() for name in table["curve"].unique()})
    most = max(LEAST_POINTS, CURVE_VALUES // max(1, maps * len(names)))
    drawn: list[dict[str, Any]] = [{"name": name, "axis": name_share(name), "shares": None} for name in names]
    own: dict[str, list[list[Curve | None]]] = {}
    for position, label in enumerate(labels):
        if label not in tables:
            continue
        table = tables[label].sort_values(["image", "curve", "share"], kind="stable")
        quantity = choose_quantity(table)
        keys = table["image"].astype(str).to_numpy(), table["curve"].astype(str).to_numpy()
        shares, values = (table[column].to_numpy(float) for column in ("share", quantity))
        changes = np.flatnonzero((keys[0][1:] != keys[0][:-1]) | (keys[1][1:] != keys[1][:-1])) + 1
        for start, end in zip([0, *changes], [*changes, len(table)], strict=True):
            if start == end:
                continue
            chosen = start + np.unique(np.rint(np.linspace(0, end - start - 1, min(end - start, most))).astype(int))
            number = names.index(keys[1][start])
            x = [float(f"{share:.4g}") for share in shares[chosen]]
            curve = drawn[number]
            if curve["shares"] is None:
                curve |= {"shares": x, "quantity": describe_quantity(table)}
            row = own.setdefault(keys[0][start], [[None] * len(labels) for _ in names])
            y = [float(f"{value:.4g}") for value in values[chosen]]
            row[number][position] = [y] if x == curve["shares"] else [y, x]
    return drawn, own


MISSING = EncodedMap(b"", 0.0, "no map was stored")


def _encode_maps(methods: Sequence[Method], image: str, side: int) -> tuple[list[EncodedMap], MapPairs]:
    """The maps of an image, and how those of methods that are no controls relate."""
    encoded, compared = [], []
    for method in methods:
        attribution = read_map(method.run.folder, image)
        encoded.append(MISSING if attribution is None else encode_map(attribution, method.signed, side))
        if not method.control:
            values = np.full((1, 1), np.nan, np.float32) if attribution is None else attribution
            compared.append((values, method.signed, method.directed))
    return encoded, relate_maps(compared)


def _find_conflict(related: MapPairs, methods: Sequence[Method]) -> dict[str, Any] | None:
    """The largest sign conflict of an image: its share, and the two methods; None where no two maps have a sign."""
    if not np.isfinite(related.conflicts).any():
        return None
    one, other = divmod(int(np.nanargmax(related.conflicts)), len(methods))
    return {"share": float(related.conflicts[one, other]), "of": methods[one].label, "in": methods[other].label}


def list_concerns(comparison: Comparison, methods: Sequence[Method]) -> dict[str, list[str]]:
    """List the warnings that a figure would have, beside the map that they are about.

    Args:
        comparison: Of the explainers of one model.
        methods: In the order of the page.

    Returns:
        {image: a warning for each method, empty where there is none}.
    """
    concerns: dict[str, list[str]] = {}
    for position, method in enumerate(methods):
        warnings = {image: words for image, _, words in list_gaps(comparison, method)} | read_warnings(
            method.run.folder
        )
        for image, words in warnings.items():
            concerns.setdefault(image, [""] * len(methods))[position] = words
    return concerns


def list_gaps(comparison: Comparison, method: Method) -> list[tuple[str, float, str]]:
    """List the images whose completeness gap exceeds the tolerance of a method.

    Args:
        comparison: Of the explainers of one model.
        method: One of them.

    Returns:
        (image, relative gap, warning), the largest gap first.
    """
    tolerance = method.run.record["explainer"].get("tolerance")
    if tolerance is None:
        return []
    table = comparison.joined.table
    rows = table[(table["metric"] == GAP) & (table["explainer"] == method.label)]
    gaps = [(str(image), float(gap)) for image, gap in zip(rows["image"], rows["value"], strict=True)]
    found = [(image, gap, describe_completeness_gap(gap, tolerance) or "") for image, gap in gaps]
    return sorted((each for each in found if each[2]), key=lambda each: -each[1] if each[1] == each[1] else -math.inf)


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
    return [
        Method(label, run, is_signed(run), run.explainer in CONTROLS, bool(run.record["explainer"].get("rectified")))
        for label, run in pairs
    ]


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


def _describe_image(run: Run, image: str, encoded: Sequence[EncodedMap], concerns: Sequence[str]) -> dict[str, Any]:
    row = run.predictions.loc[image]
    return {
        "name": image,
        "image": name_image(image),
        "policy": str(row.get("target_policy", "")),  # not in runs of earlier versions
        **{key: str(row[key]) for key in ("label", "predicted", "correct", "target")},
        "probability": read_number(row["probability"]),
        "target_probability": read_number(row["target_probability"]),
        "top": _read_top(row),
        "concerns": list(concerns),
        "flaws": [each.flaw for each in encoded],
        "scales": [float(f"{each.scale:.4g}") for each in encoded],
    }


def _read_top(row: Any) -> list[str]:
    """The likeliest classes with their probabilities, as predictions.csv has them."""
    found = []
    for text in (str(row.get(f"top{place}", "")) for place in range(1, 6)):
        name, _, number = text.rpartition(" ")
        if name:
            found.append(f"{name} {format_probability(float(number))}" if number.replace(".", "").isdigit() else text)
    return found


def read_number(text: object) -> float:
    """Read a cell as a number; NaN where it is empty."""
    return float(str(text)) if str(text) else math.nan


def _list_metrics(comparison: Comparison) -> list[dict[str, str]]:
    """Those that rank methods first, then others with a direction, without the columns of single random networks."""
    facts = comparison.joined.facts
    counted = [name for construct in comparison.constructs for name in construct.counted]
    names = sorted(
        set(comparison.joined.table["metric"]) - list_draws(facts) - set(counted),
        key=lambda name: (name not in comparison.ranks, name != GAP, name),
    )
    names = [*counted, *names]
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
