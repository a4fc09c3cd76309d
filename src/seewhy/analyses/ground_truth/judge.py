"""Judge explainers where the truth is known: scores of their maps against masks, image by image."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch

from seewhy.analyses.ground_truth.base import GroundTruth, Planted
from seewhy.analyses.ground_truth.certificate import SCORES
from seewhy.core.errors import UserError
from seewhy.explainers.base import Explainer
from seewhy.explainers.controls import Centre, Edges, Random
from seewhy.metrics.base import MetricContext
from seewhy.metrics.batch import limit_images
from seewhy.metrics.localisation import (
    AveragePrecision,
    LocalisationMetric,
    PointingGame,
    RelevanceMass,
    RelevanceRank,
)
from seewhy.models.classifier import Classifier

METRICS: dict[str, type[LocalisationMetric]] = {
    "relevance_mass": RelevanceMass,
    "average_precision": AveragePrecision,
    "rank_share": RelevanceRank,
    "pointing": PointingGame,
}
"""The metric behind each score."""
BATCH = 20
"""Images that are explained at once, and the fewest that are explained however much a method costs: with 20 differences
p < 0.05 can still be reached after a correction for hundreds of comparisons."""


def build_controls(seed: int = 0) -> dict[str, Explainer]:
    """Build the controls, which know no network.

    Args:
        seed: Of the random one.

    Returns:
        {name: control}.
    """
    return {"random": Random(seed=seed), "edges": Edges(), "centre": Centre()}


def fit_explainer(explainer: Explainer, kind: GroundTruth) -> Explainer:
    """Give an explainer what stands for nothing in the images of a kind, where it has a baseline and none was chosen.

    A method inside of another one is given it too.

    Args:
        explainer: As configured.
        kind: Of the data.

    Returns:
        The explainer.
    """
    inner: dict[str, Any] = {
        name: fit_explainer(value, kind) for name, value in vars(explainer).items() if isinstance(value, Explainer)
    }
    fitted = dataclasses.replace(explainer, **inner) if inner else explainer
    fields = {field.name: field.default for field in dataclasses.fields(explainer)}
    if kind.baseline is not None and "baseline" in fields and vars(explainer)["baseline"] == fields["baseline"]:
        changes: dict[str, Any] = {"baseline": kind.baseline}
        with suppress(UserError):  # it reads none with its settings, and refuses another
            return dataclasses.replace(fitted, **changes)
    return fitted


def judge_maps(
    classifier: Classifier, explainer: Explainer, kind: GroundTruth, planted: Planted, passes: int | None = None
) -> dict[str, list[float]]:
    """Explain images for their classes, and compare the maps with the masks.

    Args:
        classifier: The network.
        explainer: The method.
        kind: Of the data.
        planted: The images.
        passes: Forward and backward, in all: what the first `BATCH` images cost says how many of the others are explained
            too, the first of them; None: all.

    Returns:
        {score: a value per explained image, and `<score>_chance`: what no knowledge scores}.

    Raises:
        Incompatible: The method would be wrong on this network.
    """
    metrics = {name: build() for name, build in METRICS.items()}
    height, width = planted.images.shape[2:]
    fitted = fit_explainer(explainer, kind).resolve(classifier, (height, width))
    count = len(planted.images)
    for start in range(0, count, BATCH):
        if start >= count:
            break
        images, labels, masks = (values[start : min(start + BATCH, count)] for values in planted)
        before = copy.copy(classifier.passes)
        maps = fitted(classifier, images, labels)
        if passes is not None and not start:
            spent = classifier.passes.since(before)
            count = limit_images(passes, (spent.forward + spent.backward) / len(images), BATCH, count)
        measure_maps(
            classifier, metrics, planted=Planted(images, labels, masks), maps=maps.abs() if kind.magnitude else maps
        )
    values: dict[str, list[float]] = {}
    for name, metric in metrics.items():
        computed = metric.compute()
        values[name] = computed[metric.name].tolist()
        values[f"{name}_chance"] = computed[f"{metric.name}_chance"].tolist()
    return values


def measure_maps(
    classifier: Classifier, metrics: Mapping[str, LocalisationMetric], planted: Planted, maps: torch.Tensor
) -> None:
    """Add the values of maps to metrics.

    Args:
        classifier: The network.
        metrics: By the name of the score.
        planted: The images of the maps.
        maps: [n, height, width].
    """
    images, labels, masks = planted
    context = MetricContext(classifier, images, labels, maps, masks=masks)
    for metric in metrics.values():
        metric.update(classifier, images, labels, maps, context=context)


def add_controls(explainers: Mapping[str, Explainer], seed: int) -> dict[str, Explainer]:
    """Add the controls that are not among the explainers.

    Args:
        explainers: By name.
        seed: Of the random control.

    Returns:
        The controls first, then the others.
    """
    controls = {name: explainers.get(name, control) for name, control in build_controls(seed).items()}
    return controls | dict(explainers)


def name_columns(scores: Sequence[str] = SCORES) -> list[str]:
    """Name the columns of the values of a cell.

    Args:
        scores: Names.

    Returns:
        Each score with its chance.
    """
    return [column for score in scores for column in (score, f"{score}_chance")]
