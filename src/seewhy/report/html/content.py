"""Everything that a page shows, put together from comparisons and run folders.

What was run, in words, and what a reader must know before believing it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seewhy.explainers.base import describe_completeness_gap
from seewhy.report.comparison import Comparison
from seewhy.report.html import tables
from seewhy.report.html.charts import Chart, RobustnessView, build_curve_charts, build_robustness_view
from seewhy.report.html.embed import build_data_url, compress_figure
from seewhy.report.html.gallery import Gallery, Method, build_gallery, list_methods
from seewhy.report.leaderboard import list_notes
from seewhy.report.runs import Run, UnusedRun, read_curves, read_skipped

FIGURES = {
    "pareto.png": "Faithfulness against cost; what lies on the stairs is beaten by nothing cheaper",
    "ranks.png": "Average ranks with Nemenyi's critical difference",
}


@dataclass(frozen=True)
class ModelView:
    """What a page shows of one model."""

    label: str
    facts: list[tuple[str, str]]
    commands: list[str]
    cautions: list[str]
    skipped: list[tuple[str, str]]
    board: dict[str, Any]
    scores: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    ranks: list[dict[str, Any]]
    variants: dict[str, dict[str, str]]
    methods: list[dict[str, Any]]
    charts: list[Chart]
    figures: dict[str, tuple[str, str]]
    """{name: (words, data address)}"""
    robust: list[RobustnessView]
    gallery: Gallery


@dataclass(frozen=True)
class PageContent:
    """What `render` turns into report.html."""

    title: str
    subtitle: str
    models: list[ModelView]
    unused: list[tuple[str, str, str]] = field(default_factory=list)
    command: str = ""
    """Of the report itself, where it was one."""


def build_page_content(
    comparisons: Sequence[Comparison],
    runs: Sequence[Run],
    unused: Sequence[UnusedRun] = (),
    figures: Mapping[str, Mapping[str, bytes]] | None = None,
    seed: int = 0,
    command: str = "",
) -> PageContent:
    """The page of finished runs; `figures` holds {model label: {file name: PNG}}."""
    groups = [_runs_of(made, runs) for made in comparisons]
    maps = sum(len(group) * made.joined.images for made, group in zip(comparisons, groups, strict=True))
    models = [
        _model_view(made, group, maps, (figures or {}).get(made.joined.model, {}), seed)
        for made, group in zip(comparisons, groups, strict=True)
    ]
    explainers = list(dict.fromkeys(run.explainer for run in runs))
    what = explainers[0] if len(explainers) == 1 else f"{len(explainers)} explainers"
    names = [made.joined.model for made in comparisons]
    title = f"{what} on {names[0] if len(names) == 1 else f'{len(names)} models'}"
    images = comparisons[0].joined.images
    subtitle = f"{images:,} image{'s' if images != 1 else ''}, target: {comparisons[0].joined.target}"
    return PageContent(title, subtitle, models, list_unused_runs(unused), command)


def _runs_of(made: Comparison, runs: Sequence[Run]) -> list[Run]:
    folders = set(made.joined.explainers["folder"])
    return [run for run in runs if str(run.folder) in folders]


def _model_view(made: Comparison, runs: Sequence[Run], maps: int, figures: Mapping[str, bytes], seed: int) -> ModelView:
    methods = list_methods(made, runs)
    shown = build_gallery(made, methods, maps)
    curves = {one.label: table for one in methods if (table := read_curves(one.run.folder)) is not None}
    facts = {
        metric: {"variant": fact.variant, "better": fact.better or ""} for metric, fact in made.joined.facts.items()
    }
    return ModelView(
        label=made.joined.model,
        facts=list_model_facts(runs, made),
        commands=list_commands(runs),
        cautions=list_cautions(made, methods, shown),
        skipped=list_skipped_images(runs),
        board=tables.build_board(made),
        scores=tables.build_scores(made.summary),
        pairs=tables.build_pair_tables(made),
        ranks=tables.build_rank_table(made),
        variants=facts,
        methods=[_method(made, one) for one in methods],
        charts=build_curve_charts(curves, [one.label for one in methods if one.control], seed),
        figures={
            name: (FIGURES[name], build_data_url(compress_figure(figures[name]))) for name in FIGURES if name in figures
        },
        robust=[found for one in methods if (found := build_robustness_view(one)) is not None],
        gallery=shown,
    )


def _method(made: Comparison, method: Method) -> dict[str, Any]:
    row = made.joined.explainers.loc[method.label]
    return {
        "name": method.label,
        "signed": method.signed,
        "control": method.control,
        **{str(k): v for k, v in row.items()},
    }


GAP = "completeness_gap_relative"


def list_model_facts(runs: Sequence[Run], comparison: Comparison) -> list[tuple[str, str]]:
    """(name, value) of the network, the data and the settings that its runs share."""
    record, joined = runs[0].record, comparison.joined
    model = record["model"]
    facts = [
        ("Model", f"{model['name']}, {model.get('weights', '')}".strip(", ")),
        ("Weights (SHA-256)", str(model.get("weights_sha256", ""))),
        (
            "Input",
            f"{model['size']} x {model['size']} pixels, {model.get('classes', '?')} classes" if "size" in model else "",
        ),
        ("Accuracy on these images", _accuracy(runs[0])),
        ("Images", f"{joined.images:,} explained"),
        ("Data", _place(runs)),
        ("Explained class", joined.target),
        ("Seed", _each(run.record.get("seed") for run in runs)),
        ("Device", _each(_device(run) for run in runs)),
        ("Started", min((str(run.record.get("started", "")) for run in runs), default="").replace("T", " ")),
        ("Code", _each(_commit(run) for run in runs)),
        ("System", _each(_system(run) for run in runs)),
        ("Versions", _each(", ".join(f"{k} {v}" for k, v in run.record.get("versions", {}).items()) for run in runs)),
    ]
    return [(name, value) for name, value in facts if value]


def list_commands(runs: Iterable[Run]) -> list[str]:
    """The commands that made the runs, each once."""
    return list(dict.fromkeys(str(run.record["command"]) for run in runs if run.record.get("command")))


def list_cautions(comparison: Comparison, methods: Sequence[Method], gallery: Gallery) -> list[str]:
    """What the tables and maps of one model cannot carry."""
    found = []
    if comparison.joined.control is None and comparison.ranks:
        found.append("random is not among the runs, so nothing is compared with chance")
    for run in (method.run for method in methods):
        if run.record.get("git_dirty"):
            found.append(f"{run.explainer}: the code had uncommitted changes when it ran")
        if left := run.record.get("metrics_left_out"):
            found.append(f"{run.explainer}: not measured, as there are no masks: {', '.join(dict.fromkeys(left))}")
    found += [f"{note}" for note in list_notes(comparison.summary[comparison.summary["metric"].isin(comparison.ranks)])]
    found += [text for method in methods if (text := _incomplete(comparison, method))]
    flawed: dict[tuple[str, str], list[str]] = {}
    for explainer, image, flaw in gallery.flaws:
        flawed.setdefault((explainer, flaw), []).append(image)
    found += [f"{explainer}: {flaw} ({_some(images)})" for (explainer, flaw), images in flawed.items()]
    return list(dict.fromkeys(found))


def list_skipped_images(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """(path, reason), each once."""
    return list(dict.fromkeys(pair for run in runs for pair in read_skipped(run.folder)))


def list_unused_runs(unused: Iterable[UnusedRun]) -> list[tuple[str, str, str]]:
    """(folder, status, reason)."""
    return [(one.folder, one.status, one.reason) for one in unused]


def _incomplete(comparison: Comparison, method: Method) -> str:
    tolerance = method.run.record["explainer"].get("tolerance")
    table = comparison.joined.table
    gaps: Any = table[(table["metric"] == GAP) & (table["explainer"] == method.label)].set_index("image")["value"]
    over = [
        name for name, gap in gaps.items() if tolerance is not None and describe_completeness_gap(float(gap), tolerance)
    ]
    if not over:
        return ""
    return f"{method.label}: the completeness gap is over {100 * tolerance:g} % on {len(over)} images ({_some(over)})"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _each(values: Iterable[object]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def _device(run: Run) -> str:
    device, threads = run.record.get("device", ""), run.record.get("threads")
    return f"{device}, {threads} thread{'s' if threads != 1 else ''}" if device and threads else str(device)


def _commit(run: Run) -> str:
    commit = run.record.get("git_commit")
    return f"commit {commit[:12]}" + (" with changes" if run.record.get("git_dirty") else "") if commit else ""


def _system(run: Run) -> str:
    parts = [f"Python {run.record['python']}" if "python" in run.record else "", str(run.record.get("platform", ""))]
    return ", ".join(filter(None, parts))


def _accuracy(run: Run) -> str:
    known = [value for value in run.predictions["correct"] if value in ("yes", "no")]
    right = known.count("yes")
    return f"{100 * right / len(known):.1f} % ({right:,} of {len(known):,})" if known else ""


def _place(runs: Sequence[Run]) -> str:
    """The settings of the data and the folder that all files share."""
    given = [one for one in runs[0].record.get("overrides", []) if one.startswith("data")]
    paths = [path for path in runs[0].predictions["path"] if path]
    try:
        shared = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    except ValueError:
        shared = ""
    return ", ".join(filter(None, [" ".join(given), shared]))
