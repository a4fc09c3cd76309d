"""Measure the explanations of one batch, for the command and for the Python interface."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seewhy.core.errors import UserError, name_images
from seewhy.core.target_choice import build_weights
from seewhy.core.types import Batch, Explanation
from seewhy.metrics.base import ImageMetric, MetricContext

if TYPE_CHECKING:
    from seewhy.explainers.base import Explainer
    from seewhy.models.classifier import Classifier


def build_context(
    classifier: Classifier,
    explanations: Sequence[Explanation],
    explainer: Explainer,
    *,
    masks: Tensor | None = None,
    seed: int = 0,
    probe_batch_size: int | str = "auto",
) -> MetricContext:
    """Gather the explanations of a batch on the classifier's device.

    Args:
        classifier: The classifier that was explained.
        explanations: One for each image and target.
        explainer: What made them.
        masks: bool [batch, height, width] of the same images.
        seed: Decides, together with an image, every random number.
        probe_batch_size: Most images in the network at once, or `auto`.

    Returns:
        The context that all metrics of the batch share.
    """
    device = classifier.mean.device
    return MetricContext(
        classifier,
        torch.stack([explanation.image for explanation in explanations]).to(device),
        gather_targets(explanations, len(classifier.facts.classes)).to(device),
        torch.stack([explanation.attribution for explanation in explanations]).to(device),
        explainer=explainer,
        masks=masks,
        seed=seed,
        probe_batch_size=probe_batch_size,
    )


def gather_targets(explanations: Sequence[Explanation], classes: int) -> Tensor:
    """Gather what was explained.

    Args:
        explanations: At least one.
        classes: Number of classes of the classifier.

    Returns:
        int64 [n], the classes; or, where one is a contrast, weights [n, classes].
    """
    targets = [explanation.target for explanation in explanations]
    if not any(target.weights for target in targets):
        return torch.tensor([target.index for target in targets])
    return torch.stack([build_weights(target.weights or ((target.index, 1.0),), classes) for target in targets])


def select_masks(batch: Batch, explanations: Sequence[Explanation]) -> Tensor | None:
    """Select the masks of those images of a batch that were explained.

    Args:
        batch: Images with or without masks.
        explanations: Of some of its images.

    Returns:
        bool [n, height, width], or None where the batch has no masks.
    """
    if batch.masks is None:
        return None
    rows = [batch.names.index(explanation.image_name) for explanation in explanations]
    return batch.masks[torch.tensor(rows, device=batch.masks.device)]


def measure_batch(
    context: MetricContext, explanations: Sequence[Explanation], metrics: Mapping[str, ImageMetric]
) -> list[Explanation]:
    """Measure every metric of every explanation.

    Args:
        context: Of the same explanations.
        explanations: [batch].
        metrics: By their keys in the configuration.

    Returns:
        The explanations with {column: value} added to their `metrics`.
    """
    batch = context.classifier, context.images, context.targets, context.attributions
    measured: dict[str, list[float]] = {}
    with name_images([explanation.image_name for explanation in explanations]):
        for metric in metrics.values():
            measured |= {column: values.tolist() for column, values in metric(*batch, context=context).items()}
    return [
        dataclasses.replace(
            explanation, metrics={**explanation.metrics, **{name: values[row] for name, values in measured.items()}}
        )
        for row, explanation in enumerate(explanations)
    ]


def select_measurable(metrics: Mapping[str, ImageMetric], masked: bool) -> tuple[dict[str, ImageMetric], list[str]]:
    """Leave out the metrics that need masks where there are none.

    Args:
        metrics: By their keys in the configuration.
        masked: Whether the images have masks.

    Returns:
        The metrics that can be measured, and the keys of the others.

    Raises:
        UserError: If none can be measured.
    """
    left_out = [name for name, metric in metrics.items() if metric.needs_masks and not masked]
    if metrics and len(left_out) == len(metrics):
        raise UserError(
            f"{', '.join(left_out)} cannot be measured without masks: give data.masks=FOLDER with data=folder"
        )
    return {name: metric for name, metric in metrics.items() if name not in left_out}, left_out


LEAST = 10
"""Images on which a metric is measured however much a method costs: with ten p < 0.05 can be reached after a correction for
25 comparisons, and an interval is not called rough."""


def count_measured(metric: ImageMetric, cost: float, count: int) -> int:
    """Count the images of a run on which a metric is measured.

    Args:
        metric: Which may explain again, and may have a bound on the passes for that.
        cost: Passes of one explanation of an image, times the targets of an image.
        count: Images that are explained.

    Returns:
        All, where there is no bound; else as many as it pays for, at least `LEAST`.
    """
    return count if metric.passes is None else limit_images(metric.passes, metric.explanations * cost, LEAST, count)


def is_measured(position: int, measured: int, count: int) -> bool:
    """Whether an image is among those that a metric is measured on, which are spread evenly over the data.

    It depends on these numbers alone, so that resumed, sharded and distributed runs measure the same images.

    Args:
        position: Of the image in the data, from 0.
        measured: Images that are measured.
        count: Images that are explained, at the positions 0 to count - 1.

    Returns:
        Of those positions true for exactly `measured`.
    """
    return (position + 1) * measured // count > position * measured // count


def limit_images(passes: int, cost: float, least: int, count: int) -> int:
    """Limit how many images a method is measured on by what it costs.

    Args:
        passes: That may be spent in all.
        cost: Passes for one image.
        least: Images that are measured however much they cost.
        count: Images that there are.

    Returns:
        As many as the passes pay for, at least `least` and at most `count`.
    """
    return count if cost * count <= passes else min(count, max(least, int(passes // cost)))
