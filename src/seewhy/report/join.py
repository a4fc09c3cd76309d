"""Runs of a sweep as one table per model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from seewhy.metric_facts import MetricFact
from seewhy.report.labels import explainer_labels, model_labels
from seewhy.report.run_files import Run
from seewhy.report.same import check_same_answers, check_same_data, common_facts

CONTROL = "random"
CONTROLS = (CONTROL, "edges")


@dataclass(frozen=True)
class Joined:
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


def join(runs: Sequence[Run]) -> list[Joined]:
    """One `Joined` per model, sorted by its label. Raises UserError where the runs cannot be compared."""
    ordered = sorted(runs, key=lambda run: str(run.folder))
    check_same_data(ordered)
    facts = common_facts(ordered)
    models = sorted({run.model for run in ordered})
    groups = [[run for run in ordered if run.model == model] for model in models]
    names = model_labels([group[0] for group in groups])
    made = [_joined(name, group, facts) for name, group in zip(names, groups, strict=True)]
    return sorted(made, key=lambda joined: joined.model)


def _joined(model: str, runs: Sequence[Run], facts: dict[str, MetricFact]) -> Joined:
    check_same_answers(runs)
    labels = explainer_labels(runs)
    tables = [run.metrics.assign(explainer=label) for run, label in zip(runs, labels, strict=True)]
    table = pd.concat(tables, ignore_index=True)
    explainers = pd.DataFrame([_facts(run) for run in runs], index=pd.Index(labels, name="explainer"))
    measured = set(table["metric"])
    return Joined(
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
