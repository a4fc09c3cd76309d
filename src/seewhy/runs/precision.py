"""What a run in bfloat16 changes: its first images were explained and measured in float32 too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from seewhy.core.files import RunFolder
from seewhy.core.precision import compute_in_full
from seewhy.core.tensors import find_finite_rows
from seewhy.core.types import Attributions, Batch, Explanation
from seewhy.core.words import count_noun
from seewhy.explainers.batch import explain_batch
from seewhy.metrics.batch import build_context, measure_batch, select_masks, select_measurable
from seewhy.metrics.perturbation_curves import order_descending
from seewhy.metrics.similarity import compare_maps

if TYPE_CHECKING:
    from seewhy.explainers.base import Explainer
    from seewhy.metrics.base import ImageMetric
    from seewhy.models.classifier import Classifier

COMPARED = 8
"""Images of a run that are explained both ways."""
TOP = 0.1
"""Share of the pixels that count as the top of a map."""
LEAST = 0.98
"""Agreement below which a run warns."""
MAPS = {"rank_correlation": "rank correlation", "top_overlap": "top 10 % shared"}
"""What is compared of the maps, in words; 1 is the same."""
COLUMNS = ("image", "quantity", "value", "float32")


def add_float32(
    explanations: Sequence[Explanation],
    classifier: Classifier,
    batch: Batch,
    logits: Tensor,
    explainer: Explainer,
    target: object,
    metrics: Mapping[str, ImageMetric],
    **options: Any,
) -> list[Explanation]:
    """Explain and measure a batch in float32, and add what that gives to the explanations of the same images.

    Args:
        explanations: Of the run, with their metrics.
        classifier: The network.
        batch: The images to explain again; others may be explained too, and stay as they are.
        logits: Outputs of the network for them, [batch, classes].
        explainer: The method.
        target: What is explained.
        metrics: By their keys in the configuration.
        **options: `seed` and `probe_batch_size` of the metrics.

    Returns:
        The explanations, those of the batch with `float32`.
    """
    with compute_in_full(batch.images.device.type):
        twins, _ = explain_batch(classifier, batch, logits, explainer, target)
        if metrics and twins:
            measured, _ = select_measurable(metrics, batch.masks is not None)
            for members, rows in _share_metrics(measured, explanations, twins).items():
                part = [twins[row] for row in rows]
                context = build_context(classifier, part, explainer, masks=select_masks(batch, part), **options)
                values = measure_batch(context, part, {key: measured[key] for key in members})
                for row, each in zip(rows, values, strict=True):
                    twins[row] = each
            for metric in measured.values():
                metric.reset()
    full = {each.name: each for each in twins}
    narrow = [each for each in explanations if each.name in full]
    if not narrow:
        return list(explanations)
    numbers = compare_precisions(narrow, [full[each.name] for each in narrow])
    added = {each.name: both for each, both in zip(narrow, numbers, strict=True)}
    return [replace(each, float32=added[each.name]) if each.name in added else each for each in explanations]


def _share_metrics(
    metrics: Mapping[str, ImageMetric], explanations: Sequence[Explanation], twins: Sequence[Explanation]
) -> dict[tuple[str, ...], list[int]]:
    """{keys of metrics: the twins of the explanations that have these}: a bound on passes leaves some images without."""
    there = {each.name: set(each.metrics) for each in explanations}
    shared: dict[tuple[str, ...], list[int]] = {}
    for row, twin in enumerate(twins):
        keys = tuple(key for key, metric in metrics.items() if metric.name in there.get(twin.name, ()))
        if keys:
            shared.setdefault(keys, []).append(row)
    return shared


def compare_precisions(narrow: Sequence[Explanation], full: Sequence[Explanation]) -> list[dict[str, float]]:
    """Compare explanations in bfloat16 with those in float32.

    Rank correlation is Spearman's of the signed maps; top 10 % shared is the share of the largest tenth of the pixels in
    float32 that is among the largest tenth in bfloat16, equal ones in the order of the image. A map that is finite in
    float32 alone agrees in nothing.

    Args:
        narrow: Those of the run.
        full: The same explanations in float32, with the same metrics.

    Returns:
        For each `rank_correlation`, `top_overlap`, and every metric in float32; NaN where a map is the same everywhere.
    """
    maps, others = (torch.stack([each.attribution for each in side]) for side in (narrow, full))
    broken = find_finite_rows(others.flatten(1)) & ~find_finite_rows(maps.flatten(1))
    correlation = compare_maps(others, maps).masked_fill(broken, 0)
    overlap = measure_top_overlap(others, maps).masked_fill(broken, 0)
    return [
        {"rank_correlation": float(first), "top_overlap": float(second), **each.metrics}
        for first, second, each in zip(correlation, overlap, full, strict=True)
    ]


def measure_top_overlap(maps: Attributions, others: Attributions) -> Tensor:
    """Measure which share of the largest tenth of the pixels of a map is the largest tenth of another one's too.

    Args:
        maps: [batch, height, width].
        others: The same.

    Returns:
        float64 [batch] from 0 to 1; NaN where a value is not finite, or all values of a map are the same.
    """
    rows = [each.flatten(1).float() for each in (maps, others)]
    defined = find_finite_rows(rows[0]) & find_finite_rows(rows[1]) & (rows[0] != rows[0][:, :1]).any(1)
    count = max(1, round(TOP * rows[0].shape[1]))
    orders = [order_descending(each.nan_to_num())[:, :count] for each in rows]
    marks = [torch.zeros(rows[0].shape, dtype=torch.bool).scatter_(1, order.cpu(), True) for order in orders]
    return ((marks[0] & marks[1]).double().sum(1) / count).masked_fill(~defined.cpu(), torch.nan)


def read_compared(explanations: Iterable[Explanation]) -> list[Explanation]:
    """Read the explanations that were compared with float32: the first ones of a run.

    Args:
        explanations: Of the journal, in order.

    Returns:
        Those before the first one that was not; no more is read.
    """
    return list(takewhile(lambda each: each.float32 is not None, explanations))


def summarise_precision(compared: Sequence[Explanation], dtype: str) -> dict[str, Any]:
    """Summarise what the shorter type changed.

    Args:
        compared: Explanations with their values in float32, at least one.
        dtype: The type of the run, such as `bfloat16`.

    Returns:
        `type`, `explanations` compared, mean and least of `rank_correlation` and `top_overlap`; and under `metrics` for each
        its mean in both types, the mean absolute change, and `agreement`, 1 less that change over the mean size of the
        values in float32. None stands for what is not defined.
    """
    summary: dict[str, Any] = {"type": dtype, "explanations": len(compared)}
    for name in MAPS:
        values = [each.float32[name] for each in compared if each.float32 is not None]
        summary[name], summary[f"{name}_least"] = _average(values), min(_select_finite(values), default=None)
    names = dict.fromkeys(name for each in compared for name in each.metrics if name in (each.float32 or {}))
    summary["metrics"] = {name: _compare_values(name, compared, dtype) for name in names}
    return summary


def _compare_values(name: str, compared: Sequence[Explanation], dtype: str) -> dict[str, float | None]:
    pairs = [(each.metrics[name], (each.float32 or {})[name]) for each in compared if name in each.metrics]
    both = [pair for pair in pairs if all(map(math.isfinite, pair))]
    change = _average([abs(narrow - full) for narrow, full in both])
    size = _average([abs(full) for _, full in both])
    agreement = None if change is None else 1.0 if change == 0 else 1 - change / size if size else None
    narrow, full = (_average(side) for side in zip(*both, strict=True)) if both else (None, None)
    return {dtype: narrow, "float32": full, "change": change, "agreement": agreement}


def _select_finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _average(values: Iterable[float]) -> float | None:
    finite = _select_finite(values)
    return float(np.mean(finite)) if finite else None


def describe_precision(summary: Mapping[str, Any]) -> str:
    """Describe a summary in one sentence, for the terminal and the page.

    Args:
        summary: Of `summarise_precision`.

    Returns:
        The sentence.
    """
    words = [
        f"{label} {summary[name]:.3f} (least {summary[f'{name}_least']:.3f})"
        for name, label in MAPS.items()
        if summary[name] is not None
    ]
    dtype, metrics = summary["type"], summary["metrics"].items()
    words += [
        f"{name} {values['float32']:.4g} → {values[dtype]:.4g}" for name, values in metrics if values[dtype] is not None
    ]
    count = count_noun(summary["explanations"], "explanation")
    return f"{dtype} beside float32 on the first {count}: {'; '.join(words) or 'nothing to compare'}"


def warn_of_precision(summary: Mapping[str, Any]) -> str:
    """Warn where the shorter type changes more than a fiftieth.

    Args:
        summary: Of `summarise_precision`.

    Returns:
        One sentence; empty where all agreements are at least `LEAST`.
    """
    shares = {label: summary[name] for name, label in MAPS.items()}
    shares |= {name: values["agreement"] for name, values in summary["metrics"].items()}
    low = [f"{label} {share:.2f}" for label, share in shares.items() if share is not None and share < LEAST]
    if not low:
        return ""
    return (
        f"{summary['type']} agrees with float32 by less than {LEAST}: {', '.join(low)}; set precision=float32 where single "
        "maps or values count"
    )


def write_precision(folder: RunFolder, compared: Sequence[Explanation]) -> None:
    """Write precision.csv: of each compared explanation the agreement of its maps, and every metric in both types.

    Args:
        folder: Of the run.
        compared: Of `read_compared`.
    """
    rows = (
        {
            "image": each.name,
            "quantity": name,
            "value": repr(full if name in MAPS else each.metrics[name]),
            "float32": repr(1.0 if name in MAPS else full),
        }
        for each in compared
        for name, full in (each.float32 or {}).items()
    )
    folder.write_csv("precision.csv", COLUMNS, rows)
