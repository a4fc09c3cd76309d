"""Whether runs can be compared: the same images, targets and definitions."""

from __future__ import annotations

from collections.abc import Sequence

from seewhy.errors import UserError
from seewhy.metric_facts import MetricFact
from seewhy.report.run_files import Run

TOLERANCE = 0.02
"""Largest difference of a probability that another device or number of threads may make."""


def check_same_data(runs: Sequence[Run]) -> None:
    """Raise UserError unless all runs explained the same images with the same target policy."""
    first = runs[0]
    for run in runs[1:]:
        pair = f"{first.folder} and {run.folder}"
        one, other = first.record["explainer"].get("target"), run.record["explainer"].get("target")
        if one != other:
            raise UserError(f"{pair} have different target policies, {one} and {other}; compare runs of one policy")
        left, right = set(first.predictions.index), set(run.predictions.index)
        if left != right:
            lone = sorted(left ^ right)
            where = first.folder if lone[0] in left else run.folder
            some = f"{len(left)} and {len(right)} images; {lone[0]} is only in {where}"
            raise UserError(f"{pair} explained different images ({some}); compare runs of the same data and limit")
        _check_column(first, run, "label", "labels", "compare runs of the same data")


def check_same_answers(runs: Sequence[Run]) -> None:
    """Raise UserError unless runs of one model gave every image the same target, and a like probability.

    The probability tells files of the same name with different pixels apart.
    """
    first = runs[0]
    for run in runs[1:]:
        _check_column(first, run, "target", "targets", "compare runs of the same data and target policy")
        one = first.predictions["target_probability"].astype(float)
        other = run.predictions["target_probability"].astype(float)
        apart = (one - other).abs()
        if apart.max() > TOLERANCE:
            image = str(apart.idxmax())
            said = f"p={one[image]:.3f} in {first.folder} and p={other[image]:.3f} in {run.folder}"
            raise UserError(
                f"one model gives the target of image {image} {said}: "
                f"its pixels or the precision differ; compare runs of the same data and precision"
            )


def _check_column(first: Run, run: Run, column: str, words: str, fix: str) -> None:
    one, other = first.predictions[column], run.predictions[column]
    different = one[one != other]
    if len(different):
        image = str(different.index[0])
        said = f"{one[image] or 'none'!r} in {first.folder} and {other[image] or 'none'!r} in {run.folder}"
        raise UserError(f"image {image} has different {words}, {said}; {fix}")


def common_facts(runs: Sequence[Run]) -> dict[str, MetricFact]:
    """{metric: fact} of all runs. Raises UserError where a metric has two definitions or directions."""
    known: dict[str, tuple[MetricFact, Run]] = {}
    for run in runs:
        for metric, fact in run.facts.items():
            before, where = known.setdefault(metric, (fact, run))
            if before != fact:
                one, other = (f"{it.variant!r} ({it.better or 'no'} better)" for it in (before, fact))
                raise UserError(
                    f"{metric} is defined differently in {where.folder} and {run.folder}: {one} and {other}; "
                    "compare runs with the same metric settings"
                )
    return {metric: fact for metric, (fact, _) in sorted(known.items())}
