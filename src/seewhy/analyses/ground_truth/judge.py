"""Judge explainers where the truth is known: scores of their maps against masks, image by image."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from seewhy.analyses.ground_truth.base import GroundTruth, Planted
from seewhy.analyses.ground_truth.certificate import SCORES
from seewhy.explainers.base import Explainer
from seewhy.explainers.controls import Centre, Edges, Random
from seewhy.metrics.base import MetricContext
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
"""Images that are explained at once."""


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

    Args:
        explainer: As configured.
        kind: Of the data.

    Returns:
        The explainer.
    """
    fields = {field.name: field.default for field in dataclasses.fields(explainer)}
    if kind.baseline is None or "baseline" not in fields or vars(explainer)["baseline"] != fields["baseline"]:
        return explainer
    changes: dict[str, Any] = {"baseline": kind.baseline}
    return dataclasses.replace(explainer, **changes)


def judge_maps(
    classifier: Classifier, explainer: Explainer, kind: GroundTruth, planted: Planted
) -> dict[str, list[float]]:
    """Explain images for their classes, and compare the maps with the masks.

    Args:
        classifier: The network.
        explainer: The method.
        kind: Of the data.
        planted: The images.

    Returns:
        {score: a value per image, and `<score>_chance`: what no knowledge scores}.

    Raises:
        Incompatible: The method would be wrong on this network.
    """
    metrics = {name: build() for name, build in METRICS.items()}
    height, width = planted.images.shape[2:]
    fitted = fit_explainer(explainer, kind).resolve(classifier, (height, width))
    for start in range(0, len(planted.images), BATCH):
        images, labels, masks = (values[start : start + BATCH] for values in planted)
        maps = fitted(classifier, images, labels)
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
