"""Everything that a page shows: what was run, in words, what to be careful about, and the comparisons."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from seewhy.core.words import count_noun, join_names
from seewhy.report.agreement import Agreement, describe_region, tabulate_matrix
from seewhy.report.comparison import Comparison
from seewhy.report.html import tables
from seewhy.report.html.charts import (
    Chart,
    IntervalChart,
    ScatterChart,
    build_agreement_chart,
    build_curve_charts,
    build_difference_charts,
    build_difference_curves,
    build_sanity_strip,
)
from seewhy.report.html.classes import ClassTable, build_class_table
from seewhy.report.html.gallery import Gallery, Method, build_gallery, list_gaps, list_methods
from seewhy.report.html.ground_truth import CertificateView, select_certificate
from seewhy.report.html.maps import build_data_url, compress_figure
from seewhy.report.html.models import ModelPair, build_model_pairs
from seewhy.report.html.robustness import RobustnessView, build_robustness_view
from seewhy.report.html.verdict import Verdict, build_verdict, rate_suspicion
from seewhy.report.leaderboard import NO_BASELINE, describe_families, describe_leaders, list_notes
from seewhy.report.runs import Run, UnusedRun, read_curves, read_skipped
from seewhy.report.verdict import Judgement
from seewhy.runs.console import describe_foreign_labels
from seewhy.runs.precision import describe_precision
from seewhy.statistics.schema import list_draws


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
            f"{_describe_input(model)}, {model.get('classes', '?')} classes" if "size" in model else "",
        ),
        ("Accuracy on these images", _describe_accuracy(runs[0])),
        ("Images", f"{joined.images:,} explained"),
        ("Data", _describe_data(runs)),
        ("Beware", _list_each(run.record.get("accuracy_warning") for run in runs)),
        ("Precision", _list_each(map(_describe_precision, runs))),
        ("Cut", _list_each(run.record.get("pictures_cut") for run in runs)),
        ("Target class", _describe_policy(joined.target)),
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
    """List what the tables and maps of one model cannot carry, the worst first: broken maps, then the largest gaps.

    Args:
        comparison: Of its explainers.
        methods: The explainers.
        gallery: Which knows the maps that cannot be drawn.

    Returns:
        Each caution once.
    """
    cautions = []
    if comparison.joined.control is None and comparison.ranks:
        cautions.append(NO_BASELINE)
    for run in (method.run for method in methods):
        if run.record.get("git_dirty"):
            cautions.append(f"{run.explainer}: the code had uncommitted changes when it ran")
        if narrow := run.record.get("precision"):
            cautions += [f"{run.explainer}: {narrow[key]}" for key in ("warning", "slow") if narrow.get(key)]
        if left := run.record.get("metrics_left_out"):
            cautions.append(f"{run.explainer}: needs object masks (data.masks=): {', '.join(dict.fromkeys(left))}")
    first = methods[0].run
    if len(first.predictions) > len(first.images) and comparison.ranks:
        cautions.append("every score of an image is the mean over its targets; metrics.csv has each of them")
    cautions += list_notes(comparison.summary[comparison.summary["metric"].isin(comparison.ranks)])
    gaps = sorted(filter(None, (_describe_gaps(comparison, method) for method in methods)), reverse=True)
    flawed: dict[tuple[str, str], list[str]] = {}
    for explainer, image, flaw in gallery.flaws:
        flawed.setdefault((explainer, flaw), []).append(image)
    broken = [f"{explainer}: {flaw} ({join_names(images)})" for (explainer, flaw), images in flawed.items()]
    return list(dict.fromkeys([*broken, *(text for _, text in gaps), *cautions]))


def list_skipped_images(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """List (path, reason) of images that could not be used, each once."""
    return list(dict.fromkeys(pair for run in runs for pair in read_skipped(run.folder)))


def list_unused_runs(unused: Iterable[UnusedRun]) -> list[tuple[str, str, str]]:
    """List (folder, status, reason) of runs that take no part."""
    return [(run.folder, run.status, run.reason) for run in unused]


def _describe_policy(target: str) -> str:
    return "the model's prediction" if target == "predicted" else target


def _describe_input(model: Mapping[str, Any]) -> str:
    """The images of a record's `model`, such as `160 x 192 pixels, 13 channels, shown as 4, 3, 2`."""
    size, channels = model["size"], len(model.get("mean", (0,) * 3))
    height, width = size if isinstance(size, list | tuple) else (size, size)
    words = [f"{height} x {width} pixels"]
    words += [count_noun(channels, "channel")] if channels != 3 else []
    words += [f"shown: {', '.join(map(str, model['display']))}"] if model.get("display") else []
    words += [f"fit: {model['fit']}"] if model.get("fit") else []
    return ", ".join(words)


def _describe_gaps(comparison: Comparison, method: Method) -> tuple[float, str] | None:
    """The largest gap of a method, and a sentence about all that exceed its tolerance, the worst first."""
    gaps = list_gaps(comparison, method)
    if not gaps:
        return None
    tolerance = method.run.record["explainer"]["tolerance"]
    names = join_names([f"{image} {100 * gap:.3g} %" for image, gap, _ in gaps])
    count = count_noun(len(gaps), "image")
    return gaps[0][
        1
    ], f"{method.label}: completeness gap exceeds the {100 * tolerance:g} % tolerance on {count} ({names})"


def _list_each(values: Iterable[object]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def _describe_device(run: Run) -> str:
    device, threads = run.record.get("device", ""), run.record.get("threads")
    return f"{device}, {count_noun(threads, 'thread')}" if device and threads else str(device)


def _describe_precision(run: Run) -> str:
    """What a shorter type of number changed; empty of a run in float32."""
    summary = run.record.get("precision") or {}
    if not summary.get("explanations"):
        return str(summary.get("type", ""))
    return f"{run.explainer}: {describe_precision(summary)}"


def _describe_commit(run: Run) -> str:
    commit = run.record.get("git_commit")
    return f"commit {commit[:12]}" + (" with changes" if run.record.get("git_dirty") else "") if commit else ""


def _describe_system(run: Run) -> str:
    parts = [f"Python {run.record['python']}" if "python" in run.record else "", str(run.record.get("platform", ""))]
    return ", ".join(filter(None, parts))


def _describe_accuracy(run: Run) -> str:
    right, answers, others = run.count_answers()
    share = f"{100 * right / answers:.1f} % ({right:,} of {answers:,})" if answers else ""
    return "; ".join(filter(None, (share, describe_foreign_labels(len(others), others[0]) if others else "")))


def _describe_data(runs: Sequence[Run]) -> str:
    """The settings of the data and the folder that all files share."""
    overrides = [override for override in runs[0].record.get("overrides", []) if override.startswith("data")]
    paths = [path for path in runs[0].predictions["path"] if path]
    try:
        shared = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    except ValueError:
        shared = ""
    return ", ".join(filter(None, [" ".join(overrides), shared]))


FIGURES = {
    "pareto.png": "Mean rank in each construct against cost; Pareto front: no cheaper method scores better",
    "ranks.png": "Average ranks; a bar joins methods no two of which differ significantly",
}


@dataclass(frozen=True)
class ModelView:
    """The sections of a page about one model.

    Args:
        label: Of the model.
        facts: (name, value) of what was run.
        commands: That made the runs.
        cautions: What its tables and maps cannot carry.
        skipped: (path, reason) of images that could not be used.
        boards: The leaderboard of each construct.
        scores: Rows of summary.csv.
        pairs: Tables of paired comparisons.
        ranks: Tables of average ranks, one for each construct.
        variants: Definition and direction of each metric.
        methods: Explainers with their cost.
        charts: Perturbation curves.
        apart: These curves as differences from random's.
        sanity: How alike maps stay under random weights, for another class and with small noise.
        scatter: Probability and agreement of each image.
        figures: {name: (words, data address)}.
        robust: Of the robustness runs.
        gallery: Images and maps.
        tests: The tests behind all verdicts, in a sentence.
        leading: What bold values have shown; empty where none is bold.
        classes: Accuracy, confusions, mean scores and outliers of each true class.
        agreement: Taus between metrics, what one image less changes, sufficient regions; empty where there is none.
    """

    label: str
    facts: list[tuple[str, str]]
    commands: list[str]
    cautions: list[str]
    skipped: list[tuple[str, str]]
    boards: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    ranks: list[dict[str, Any]]
    variants: dict[str, dict[str, str]]
    methods: list[dict[str, Any]]
    charts: list[Chart]
    figures: dict[str, tuple[str, str]]
    robust: list[RobustnessView]
    gallery: Gallery
    tests: str = ""
    leading: str = ""
    classes: ClassTable = field(default_factory=ClassTable)
    agreement: dict[str, Any] = field(default_factory=dict)
    apart: list[Chart] = field(default_factory=list)
    sanity: list[IntervalChart] = field(default_factory=list)
    scatter: ScatterChart | None = None


@dataclass(frozen=True)
class PageContent:
    """The content of report.html.

    Args:
        title: Of the page.
        subtitle: Below it.
        models: Sections of each model.
        unused: (folder, status, reason) of runs that take no part.
        command: Of the report itself, where it was a command of its own.
        pairs: Models side by side; none where there is one model.
        verdict: What stands first.
        citation: How the package is cited.
        certificate: What is known of the architectures where the truth is known; None: nothing.
    """

    title: str
    subtitle: str
    models: list[ModelView]
    unused: list[tuple[str, str, str]] = field(default_factory=list)
    command: str = ""
    pairs: list[ModelPair] = field(default_factory=list)
    verdict: Verdict = field(default_factory=lambda: Verdict([], []))
    citation: str = ""
    certificate: CertificateView | None = None


def build_page_content(
    comparisons: Sequence[Comparison],
    runs: Sequence[Run],
    unused: Sequence[UnusedRun] = (),
    figures: Mapping[str, Mapping[str, bytes]] | None = None,
    seed: int = 0,
    command: str = "",
    judgements: Sequence[Judgement] = (),
    agreements: Sequence[Agreement] = (),
    certificate: pd.DataFrame | None = None,
) -> PageContent:
    """Build the content of the page of finished runs.

    Args:
        comparisons: Of each model.
        runs: That were compared.
        unused: Runs that take no part.
        figures: {model: {file name: PNG}}.
        seed: Of the bootstrap.
        command: That made the report, where it was a command of its own.
        judgements: Of the models whose methods were measured for a verdict.
        agreements: Of the metrics, for each model.
        certificate: Of the methods on planted data; None: nothing is known.

    Returns:
        The content.
    """
    groups = [_select_runs(comparison, runs) for comparison in comparisons]
    maps = sum(len(run.predictions) for group in groups for run in group)
    models = [
        _build_model_view(comparison, group, maps, (figures or {}).get(comparison.joined.model, {}), seed)
        for comparison, group in zip(comparisons, groups, strict=True)
    ]
    explainers = list(dict.fromkeys(run.explainer for run in runs))
    what = explainers[0] if len(explainers) == 1 else f"{len(explainers)} methods"
    names = [comparison.joined.model for comparison in comparisons]
    title = f"{what} on {names[0] if len(names) == 1 else f'{len(names)} models'}"
    images = comparisons[0].joined.images
    policy = _describe_policy(comparisons[0].joined.target)
    subtitle = f"{count_noun(images, 'image')}, target class: {policy}"
    methods = [list_methods(comparison, group) for comparison, group in zip(comparisons, groups, strict=True)]
    for model, shown in zip(models, methods, strict=True):
        for row in model.gallery.facts["images"]:
            row["suspicion"], row["reasons"], row["suspect"] = rate_suspicion(row, shown)
    for model, agreement in zip(models, agreements, strict=False):
        model.agreement.update(_describe_agreement(agreement))
    verdict = build_verdict(comparisons, methods, [model.gallery for model in models], judgements)
    pairs = build_model_pairs(comparisons, methods, seed)
    version = str(runs[0].record.get("versions", {}).get("seewhy", ""))
    citation = f"seewhy {version}".strip() + ": explanations of image classifiers, and measurements of them. Software."
    networks = dict.fromkeys(str(run.record["model"]["name"]) for run in runs if run.record.get("model"))
    planted = None if certificate is None else select_certificate(networks, certificate)
    return PageContent(title, subtitle, models, list_unused_runs(unused), command, pairs, verdict, citation, planted)


def _describe_agreement(agreement: Agreement) -> dict[str, Any]:
    """What the page shows of the agreement of metrics; empty where there is nothing."""
    names, taus = tabulate_matrix(agreement)
    content = {
        "names": names,
        "rows": list(zip(names, taus, strict=True)),
        "ranks": agreement.ranks.to_dict("records"),
        "regions": [describe_region(row) for _, row in agreement.regions.iterrows()],
    }
    return content if any(content.values()) else {}


def _select_runs(comparison: Comparison, runs: Sequence[Run]) -> list[Run]:
    folders = set(comparison.joined.explainers["folder"])
    return [run for run in runs if str(run.folder) in folders]


def _build_model_view(
    comparison: Comparison, runs: Sequence[Run], maps: int, figures: Mapping[str, bytes], seed: int
) -> ModelView:
    methods = list_methods(comparison, runs)
    curves = {each.label: table for each in methods if (table := read_curves(each.run.folder)) is not None}
    gallery = build_gallery(comparison, methods, maps, curves)
    draws = list_draws(comparison.joined.facts)
    facts = {
        metric: {"variant": fact.variant, "better": fact.better or ""}
        for metric, fact in comparison.joined.facts.items()
        if metric not in draws
    }
    return ModelView(
        label=comparison.joined.model,
        facts=list_model_facts(runs, comparison),
        commands=list_commands(runs),
        cautions=list_cautions(comparison, methods, gallery),
        skipped=list_skipped_images(runs),
        boards=[
            {**board, "differences": build_difference_charts(comparison, construct)}
            for board, construct in zip(tables.build_boards(comparison), comparison.constructs, strict=True)
        ],
        scores=tables.build_scores(comparison.summary),
        pairs=tables.build_pair_tables(comparison),
        ranks=tables.build_rank_tables(comparison),
        variants=facts,
        methods=[_describe_method(comparison, method) for method in methods],
        charts=build_curve_charts(curves, [method.label for method in methods if method.control], seed),
        figures={
            name: (FIGURES[name], build_data_url(compress_figure(figures[name]))) for name in FIGURES if name in figures
        },
        robust=[view for method in methods if (view := build_robustness_view(method)) is not None],
        gallery=gallery,
        tests=describe_families(comparison),
        leading=describe_leaders(comparison) if any(map(comparison.list_leaders, comparison.ranks)) else "",
        classes=build_class_table(comparison, runs[0].images),
        apart=build_difference_curves(curves, comparison.joined.control, seed),
        sanity=build_sanity_strip(comparison),
        scatter=build_agreement_chart(gallery.facts["images"]),
    )


def _describe_method(comparison: Comparison, method: Method) -> dict[str, Any]:
    row = comparison.joined.explainers.loc[method.label]
    return {
        "name": method.label,
        "signed": method.signed,
        "control": method.control,
        **{str(k): v for k, v in row.items()},
    }
