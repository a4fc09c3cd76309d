"""Two networks side by side: what they say of the same images, where they look, and what changed between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from seewhy.core.target_choice import name_image
from seewhy.core.words import count_noun
from seewhy.report.comparison import Comparison
from seewhy.report.html.gallery import Method, read_number
from seewhy.report.html.maps import compute_agreement
from seewhy.report.runs import Run, read_map
from seewhy.statistics.schema import ARROWS
from seewhy.statistics.summary import check_table
from seewhy.statistics.tests import compare_pairs

SHOWN = 12
"""Images that are listed; the tables count all."""


@dataclass(frozen=True)
class ModelPair:
    """What two networks have in common, and what changed from the first to the second.

    Args:
        first: Label of the first network.
        second: Label of the second one.
        counts: (words, value) about the predictions.
        methods: Of each shared method: name, whether it is a control, mean rank correlation of the maps of an image,
            number of images.
        scores: Of each shared method and metric with a direction: both means, the difference and its test.
        mapped: The method whose maps decide the order of the images.
        images: The images that changed most: name, image (without its target), label, changed, correlation, and of both
            networks prediction, probability, correctness and target. Their maps are in the gallery, a row a network.
        total: Number of images, or of targets of images where several are explained.
    """

    first: str
    second: str
    counts: list[tuple[str, str]]
    methods: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    mapped: str
    images: list[dict[str, Any]]
    total: int


def build_model_pairs(
    comparisons: Sequence[Comparison], methods: Sequence[Sequence[Method]], seed: int = 0
) -> list[ModelPair]:
    """Compare the first network with each other one.

    Args:
        comparisons: Of each network, on the same images.
        methods: The explainers of each network.
        seed: Of the tests.

    Returns:
        A pair for each network but the first that shares a method with it.
    """
    pairs = []
    for comparison, others in zip(comparisons[1:], methods[1:], strict=True):
        by_label = {method.label: method for method in others}
        shared = [(method, by_label[method.label]) for method in methods[0] if method.label in by_label]
        if shared:
            pairs.append(_build_pair(comparisons[0], comparison, shared, seed))
    return pairs


def _build_pair(one: Comparison, other: Comparison, shared: Sequence[tuple[Method, Method]], seed: int) -> ModelPair:
    first, second = (method.run.predictions for method in shared[0])
    images = [str(name) for name in first.index if name in second.index]
    correlations = {pair[0].label: {image: _correlate(pair, image) for image in images} for pair in shared}
    controls = {pair[0].label for pair in shared if pair[0].control}
    methods = [
        {"name": name, "control": name in controls, "correlation": _average(each), "n": len(_list_by_image(each))}
        for name, each in correlations.items()
    ]
    shown = next((pair for pair in shared if not pair[0].control), shared[0])
    similar = correlations[shown[0].label]
    answers = [each["predicted"].to_dict() for each in (first, second)]
    comparable = _count_classes(shared[0][0].run) == _count_classes(shared[0][1].run)
    changed = {image: comparable and answers[0][image] != answers[1][image] for image in images}
    order = sorted(images, key=lambda image: (not changed[image], _last_if_nan(similar[image])))
    rows = _build_rows(order[:SHOWN], shown, similar, changed)
    return ModelPair(
        one.joined.model,
        other.joined.model,
        _count_changes(shared[0][0].run, shared[0][1].run, images),
        methods,
        _compare_scores(one, other, {pair[0].label: pair[0].control for pair in shared}, seed),
        shown[0].label,
        rows,
        len(images),
    )


def _last_if_nan(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _average(values: Mapping[str, float]) -> float:
    known = _list_by_image(values)
    return float(np.mean(known)) if known else math.nan


def _list_by_image(values: Mapping[str, float]) -> list[float]:
    """The mean over the targets of each image that has a value."""
    by_image: dict[str, list[float]] = {}
    for name, value in values.items():
        if not math.isnan(value):
            by_image.setdefault(name_image(name), []).append(value)
    return [float(np.mean(each)) for each in by_image.values()]


def _correlate(pair: tuple[Method, Method], image: str) -> float:
    """Rank correlation of the maps of two networks, the larger averaged to the size of the smaller."""
    maps = [read_map(method.run.folder, image) for method in pair]
    if maps[0] is None or maps[1] is None:
        return math.nan
    tensors = [torch.from_numpy(np.asarray(values, np.float32)) for values in maps]
    size = min(tensor.shape[0] for tensor in tensors), min(tensor.shape[1] for tensor in tensors)
    fitted = [
        tensor if tuple(tensor.shape) == size else functional.adaptive_avg_pool2d(tensor[None, None], size)[0, 0]
        for tensor in tensors
    ]
    return compute_agreement([(values.numpy(), method.directed) for values, method in zip(fitted, pair, strict=True)])


def _count_classes(run: Run) -> object:
    """The number of classes of a network; None in a record that does not say it."""
    return run.record["model"].get("classes")


def _count_changes(one: Run, other: Run, explained: Sequence[str]) -> list[tuple[str, str]]:
    """What changed in the predictions, in words; `explained` are the explanations that both have."""
    first, second = one.images, other.images
    right = [[answer == "yes" for answer in each["correct"]] for each in (first, second)]
    changed = int((first["predicted"] != second["predicted"]).sum())
    counts = [("Predictions that changed", f"{changed:,} of {len(first):,}")]
    numbers = _count_classes(one), _count_classes(other)
    if numbers[0] != numbers[1]:
        counts = [("Predictions that changed", f"not compared: {numbers[0]} and {numbers[1]} classes")]
    if all((each["correct"] != "").any() for each in (first, second)):
        known = [one != "" and other != "" for one, other in zip(first["correct"], second["correct"], strict=True)]
        total = sum(known)
        gained, lost = (
            sum(not a and b for a, b, k in zip(*each, known, strict=True) if k) for each in (right, right[::-1])
        )
        counts += [("Became right", f"{gained:,} of {total:,}"), ("Became wrong", f"{lost:,} of {total:,}")]
    targets, chances = (
        [run.predictions[name].to_dict() for run in (one, other)] for name in ("target", "target_probability")
    )
    gaps: dict[str, list[float]] = {}
    for name in explained:
        gap = read_number(chances[1][name]) - read_number(chances[0][name])
        if targets[0][name] == targets[1][name] and not math.isnan(gap):  # a contrast has no probability
            gaps.setdefault(name_image(name), []).append(gap)
    if gaps:
        mean = np.mean([np.mean(each) for each in gaps.values()])
        words = f"{mean:+.3f} on {count_noun(len(gaps), 'image')}"
        counts.append(("Probability of the target, where it is the same", words))
    return counts


def _compare_scores(one: Comparison, other: Comparison, labels: Mapping[str, bool], seed: int) -> list[dict[str, Any]]:
    """Means of every shared method and metric with a direction, and the test of their difference on the same images."""
    rows = []
    tables = [check_table(each.joined.table) for each in (one, other)]
    facts = {name: fact for name, fact in one.joined.facts.items() if fact.better and name in other.joined.facts}
    for metric, fact in facts.items():
        for label in labels:
            columns = [
                table[(table["metric"] == metric) & (table["explainer"] == label)].set_index("image")["value"]
                for table in tables
            ]
            values = pd.DataFrame({"b": columns[1], "a": columns[0]}).dropna()
            if values.empty or fact.better is None:
                continue
            test = compare_pairs(values, fact.better, seed).iloc[0]  # a less b
            rows.append(
                {
                    "method": label,
                    "control": labels[label],
                    "metric": metric,
                    "arrow": ARROWS[fact.better],
                    "first": float(values["a"].mean()),
                    "second": float(values["b"].mean()),
                    "difference": -float(test["difference"]),
                    "p": float(test["p"]),
                    "n": len(values),
                }
            )
    return rows


def _build_rows(
    images: Sequence[str], pair: tuple[Method, Method], similar: Mapping[str, float], changed: Mapping[str, bool]
) -> list[dict[str, Any]]:
    """The images, with what both networks say of each."""
    tables = [method.run.predictions for method in pair]
    rows = []
    for image in images:
        both = [
            {
                "predicted": str(row["predicted"]),
                "probability": read_number(row["probability"]),
                "correct": str(row["correct"]),
                "target": str(row["target"]),
            }
            for row in (table.loc[image] for table in tables)
        ]
        rows.append(
            {
                "name": _name_row(image, tables[0].loc[image]),
                "image": name_image(image),
                "label": str(tables[0].loc[image, "label"]),
                "changed": bool(changed[image]),
                "correlation": similar[image],
                "both": both,
            }
        )
    return rows


def _name_row(name: str, prediction: Any) -> str:
    """The image, with its target as it was set where several are explained."""
    image = name_image(name)
    return name if image == name else f"{image} @ {prediction['target_policy']}"
