"""From explanations to scored explanations: what the command and the Python interface share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Batch, Explanation
from seewhy.explainers.base import Explainer
from seewhy.metrics.base import Evidence, ImageMetric
from seewhy.models.classifier import Classifier


def evidence_of(
    classifier: Classifier,
    explanations: Sequence[Explanation],
    explainer: Explainer,
    *,
    masks: Tensor | None = None,
    seed: int = 0,
    probe_batch_size: int | str = "auto",
) -> Evidence:
    """The maps of a batch, ready to be measured; `masks` bool [batch, height, width] belong to the same images."""
    device = classifier.mean.device
    return Evidence(
        classifier,
        torch.stack([one.image for one in explanations]).to(device),
        torch.tensor([one.target.index for one in explanations], device=device),
        torch.stack([one.attribution for one in explanations]).to(device),
        explainer=explainer,
        masks=masks,
        seed=seed,
        probe_batch_size=probe_batch_size,
    )


def masks_of(batch: Batch, explanations: Sequence[Explanation]) -> Tensor | None:
    """The masks [n, height, width] of the images of a batch that were explained; None without masks."""
    if batch.masks is None:
        return None
    rows = torch.tensor([batch.names.index(one.name) for one in explanations], device=batch.masks.device)
    return batch.masks[rows]


def measure_batch(
    evidence: Evidence, explanations: Sequence[Explanation], metrics: Mapping[str, ImageMetric]
) -> list[Explanation]:
    """The explanations with the value of every metric."""
    measured: dict[str, list[float]] = {}
    for metric in metrics.values():
        given = evidence.classifier, evidence.images, evidence.targets, evidence.attributions
        values = metric(*given, evidence=evidence)
        measured |= {column: each.tolist() for column, each in values.items()}
    return [
        dataclasses.replace(one, metrics={**one.metrics, **{name: values[row] for name, values in measured.items()}})
        for row, one in enumerate(explanations)
    ]


def measurable(metrics: Mapping[str, ImageMetric], masked: bool) -> tuple[dict[str, ImageMetric], list[str]]:
    """(the metrics that can be taken, the names of those that need masks where there are none).

    UserError where none is left.
    """
    left_out = [name for name, metric in metrics.items() if metric.needs_masks and not masked]
    if metrics and len(left_out) == len(metrics):
        raise UserError(f"{', '.join(left_out)} compare maps with masks: give data.masks=FOLDER with data=folder")
    return {name: metric for name, metric in metrics.items() if name not in left_out}, left_out
