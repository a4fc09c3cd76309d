"""Runs of one model joined into one table, after a check that they can be compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from seewhy.core.errors import UserError
from seewhy.report.runs import Run
from seewhy.statistics.schema import MetricFact


def label_explainers(runs: Sequence[Run]) -> list[str]:
    """The explainer's name; with the parameters that differ, the seed or the folder where the name is shared.

    For runs of one model. The result does not depend on the order of the runs.
    """
    details = [_parameters, lambda run: {f"seed={run.record.get('seed')}"}, lambda run: {run.folder.name}]
    return _apart(runs, lambda run: run.explainer, [*details, lambda run: {str(run.folder)}])


def label_models(runs: Sequence[Run]) -> list[str]:
    """The model's name; with the start of the hash of its weights where the name is shared. One run per model."""
    return _apart(runs, lambda run: run.model[0], [lambda run: {run.model[1][:8]}])


def _parameters(run: Run) -> set[str]:
    text = str(run.record["explainer"].get("parameters", ""))
    return set(re.split(r", (?=\w+=)", text)) if text else set()


def _apart(runs: Sequence[Run], name: Callable[[Run], str], details: Sequence[Callable[[Run], set[str]]]) -> list[str]:
    """Names with the first of `details` that tells all runs of one name apart, reduced to what they do not share."""
    labels = []
    for run in runs:
        alike = [other for other in runs if name(other) == name(run)]
        label = name(run)
        if len(alike) > 1:
            for detail in details:
                parts = [frozenset(detail(other)) for other in alike]
                if len(set(parts)) == len(parts):
                    break
            own = detail(run) - frozenset.intersection(*parts)
            label = f"{label} ({', '.join(sorted(own)) or 'default'})"
        labels.append(label)
    return labels


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


def collect_facts(runs: Sequence[Run]) -> dict[str, MetricFact]:
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


CONTROL = "random"


CONTROLS = (CONTROL, "edges")


@dataclass(frozen=True)
class JoinedRuns:
    """The runs of one model on the same images."""

    model: str
    images: int
    target: str
    table: pd.DataFrame
    """image, explainer (the label of its run), metric, value"""
    explainers: pd.DataFrame
    """by label, sorted: method, parameters, control (whether it is one), passes, seconds (per image), device, folder"""
    facts: dict[str, MetricFact]
    """of the metrics that were measured"""

    @property
    def control(self) -> str | None:
        """The label of the explainer that knows nothing, the first of several; None where it was not run."""
        names = self.explainers.index[self.explainers["method"] == CONTROL]
        return str(names[0]) if len(names) else None


def join_runs(runs: Sequence[Run]) -> list[JoinedRuns]:
    """One `Joined` per model, sorted by its label. Raises UserError where the runs cannot be compared."""
    ordered = sorted(runs, key=lambda run: str(run.folder))
    check_same_data(ordered)
    facts = collect_facts(ordered)
    models = sorted({run.model for run in ordered})
    groups = [[run for run in ordered if run.model == model] for model in models]
    names = label_models([group[0] for group in groups])
    made = [_joined(name, group, facts) for name, group in zip(names, groups, strict=True)]
    return sorted(made, key=lambda joined: joined.model)


def _joined(model: str, runs: Sequence[Run], facts: dict[str, MetricFact]) -> JoinedRuns:
    check_same_answers(runs)
    labels = label_explainers(runs)
    tables = [run.metrics.assign(explainer=label) for run, label in zip(runs, labels, strict=True)]
    table = pd.concat(tables, ignore_index=True)
    explainers = pd.DataFrame([_facts(run) for run in runs], index=pd.Index(labels, name="explainer"))
    measured = set(table["metric"])
    return JoinedRuns(
        model,
        len(runs[0].predictions),
        str(runs[0].record["explainer"].get("target", "")),
        table,
        explainers.sort_index(),
        {metric: fact for metric, fact in facts.items() if metric in measured},
    )


def _facts(run: Run) -> dict[str, object]:
    passes, seconds = run.record.get("passes_per_image"), run.record.get("attribution_seconds")
    images = run.record["images_explained"]
    return {
        "method": run.explainer,
        "parameters": run.record["explainer"].get("parameters", ""),
        "control": run.explainer in CONTROLS,
        "passes": float(sum(passes.values())) if passes else float("nan"),
        "seconds": seconds / images if seconds is not None else float("nan"),
        "device": str(run.record.get("device", "")),
        "folder": str(run.folder),
    }
