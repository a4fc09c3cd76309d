"""What each run is called in a comparison: as short as it can be while no two are alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from seewhy.report.run_files import Run


def explainer_labels(runs: Sequence[Run]) -> list[str]:
    """The explainer's name; with the parameters that differ, the seed or the folder where the name is shared.

    For runs of one model. The result does not depend on the order of the runs.
    """
    details = [_parameters, lambda run: {f"seed={run.record.get('seed')}"}, lambda run: {run.folder.name}]
    return _apart(runs, lambda run: run.explainer, [*details, lambda run: {str(run.folder)}])


def model_labels(runs: Sequence[Run]) -> list[str]:
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
