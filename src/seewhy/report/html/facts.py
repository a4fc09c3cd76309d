"""What was run, in words, and what a reader must know before believing it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from seewhy.explainers.completeness import describe_completeness_gap
from seewhy.report.comparison import Comparison
from seewhy.report.html.gallery import Gallery, Method
from seewhy.report.runs import Run, UnusedRun, read_skipped
from seewhy.report.terminal_tables import join_names, list_notes

GAP = "completeness_gap_relative"


def list_model_facts(runs: Sequence[Run], comparison: Comparison) -> list[tuple[str, str]]:
    """List the network, the data and the settings that its runs share.

    Args:
        runs: Of one model.
        comparison: Of its explainers.

    Returns:
        (name, value) of what the records say.
    """
    record, joined = runs[0].record, comparison.joined
    model = record["model"]
    facts = [
        ("Model", f"{model['name']}, {model.get('weights', '')}".strip(", ")),
        ("Weights (SHA-256)", str(model.get("weights_sha256", ""))),
        (
            "Input",
            f"{model['size']} x {model['size']} pixels, {model.get('classes', '?')} classes" if "size" in model else "",
        ),
        ("Accuracy on these images", _describe_accuracy(runs[0])),
        ("Images", f"{joined.images:,} explained"),
        ("Data", _describe_data(runs)),
        ("Explained class", joined.target),
        ("Seed", _list_each(run.record.get("seed") for run in runs)),
        ("Device", _list_each(_describe_device(run) for run in runs)),
        ("Started", min((str(run.record.get("started", "")) for run in runs), default="").replace("T", " ")),
        ("Code", _list_each(_describe_commit(run) for run in runs)),
        ("System", _list_each(_describe_system(run) for run in runs)),
        (
            "Versions",
            _list_each(", ".join(f"{k} {v}" for k, v in run.record.get("versions", {}).items()) for run in runs),
        ),
    ]
    return [(name, value) for name, value in facts if value]


def list_commands(runs: Iterable[Run]) -> list[str]:
    """List the commands that made the runs, each once."""
    return list(dict.fromkeys(str(run.record["command"]) for run in runs if run.record.get("command")))


def list_cautions(comparison: Comparison, methods: Sequence[Method], gallery: Gallery) -> list[str]:
    """List what the tables and maps of one model cannot carry.

    Args:
        comparison: Of its explainers.
        methods: The explainers.
        gallery: Which knows the maps that cannot be drawn.

    Returns:
        Each caution once.
    """
    cautions = []
    if comparison.joined.control is None and comparison.ranks:
        cautions.append("random is not among the runs, so nothing is compared with chance")
    for run in (method.run for method in methods):
        if run.record.get("git_dirty"):
            cautions.append(f"{run.explainer}: the code had uncommitted changes when it ran")
        if left := run.record.get("metrics_left_out"):
            cautions.append(f"{run.explainer}: not measured, as there are no masks: {', '.join(dict.fromkeys(left))}")
    cautions += list_notes(comparison.summary[comparison.summary["metric"].isin(comparison.ranks)])
    cautions += [text for method in methods if (text := _describe_gaps(comparison, method))]
    flawed: dict[tuple[str, str], list[str]] = {}
    for explainer, image, flaw in gallery.flaws:
        flawed.setdefault((explainer, flaw), []).append(image)
    cautions += [f"{explainer}: {flaw} ({join_names(images)})" for (explainer, flaw), images in flawed.items()]
    return list(dict.fromkeys(cautions))


def list_skipped_images(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """List (path, reason) of images that could not be used, each once."""
    return list(dict.fromkeys(pair for run in runs for pair in read_skipped(run.folder)))


def list_unused_runs(unused: Iterable[UnusedRun]) -> list[tuple[str, str, str]]:
    """List (folder, status, reason) of runs that take no part."""
    return [(run.folder, run.status, run.reason) for run in unused]


def _describe_gaps(comparison: Comparison, method: Method) -> str:
    tolerance = method.run.record["explainer"].get("tolerance")
    table = comparison.joined.table
    gaps: Any = table[(table["metric"] == GAP) & (table["explainer"] == method.label)].set_index("image")["value"]
    over = [
        name for name, gap in gaps.items() if tolerance is not None and describe_completeness_gap(float(gap), tolerance)
    ]
    if not over:
        return ""
    return (
        f"{method.label}: the completeness gap is over {100 * tolerance:g} % on {len(over)} images ({join_names(over)})"
    )


def _list_each(values: Iterable[object]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def _describe_device(run: Run) -> str:
    device, threads = run.record.get("device", ""), run.record.get("threads")
    return f"{device}, {threads} thread{'s' if threads != 1 else ''}" if device and threads else str(device)


def _describe_commit(run: Run) -> str:
    commit = run.record.get("git_commit")
    return f"commit {commit[:12]}" + (" with changes" if run.record.get("git_dirty") else "") if commit else ""


def _describe_system(run: Run) -> str:
    parts = [f"Python {run.record['python']}" if "python" in run.record else "", str(run.record.get("platform", ""))]
    return ", ".join(filter(None, parts))


def _describe_accuracy(run: Run) -> str:
    answers = [value for value in run.predictions["correct"] if value in ("yes", "no")]
    right = answers.count("yes")
    return f"{100 * right / len(answers):.1f} % ({right:,} of {len(answers):,})" if answers else ""


def _describe_data(runs: Sequence[Run]) -> str:
    """The settings of the data and the folder that all files share."""
    overrides = [override for override in runs[0].record.get("overrides", []) if override.startswith("data")]
    paths = [path for path in runs[0].predictions["path"] if path]
    try:
        shared = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    except ValueError:
        shared = ""
    return ", ".join(filter(None, [" ".join(overrides), shared]))
