"""Everything that a page shows, put together from comparisons and run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seewhy.report.comparison import Comparison
from seewhy.report.html import tables
from seewhy.report.html.charts import RobustnessView, build_curve_charts, build_robustness_view
from seewhy.report.html.embed import build_data_url, compress_figure
from seewhy.report.html.facts import (
    list_cautions,
    list_commands,
    list_model_facts,
    list_skipped_images,
    list_unused_runs,
)
from seewhy.report.html.gallery import Gallery, Method, build_gallery, list_methods
from seewhy.report.html.svg import Chart
from seewhy.report.runs import Run, UnusedRun, read_curves
from seewhy.statistics.schema import list_draws

FIGURES = {
    "pareto.png": "Faithfulness against cost; what lies on the stairs is beaten by nothing cheaper",
    "ranks.png": "Average ranks with Nemenyi's critical difference",
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
        board: The leaderboard.
        scores: Rows of summary.csv.
        pairs: Tables of paired comparisons.
        ranks: Average ranks by metric.
        variants: Definition and direction of each metric.
        methods: Explainers with their cost.
        charts: Perturbation curves.
        figures: {name: (words, data address)}.
        robust: Of the robustness runs.
        gallery: Images and maps.
    """

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
    robust: list[RobustnessView]
    gallery: Gallery


@dataclass(frozen=True)
class PageContent:
    """The content of report.html.

    Args:
        title: Of the page.
        subtitle: Below it.
        models: Sections of each model.
        unused: (folder, status, reason) of runs that take no part.
        command: Of the report itself, where it was a command of its own.
    """

    title: str
    subtitle: str
    models: list[ModelView]
    unused: list[tuple[str, str, str]] = field(default_factory=list)
    command: str = ""


def build_page_content(
    comparisons: Sequence[Comparison],
    runs: Sequence[Run],
    unused: Sequence[UnusedRun] = (),
    figures: Mapping[str, Mapping[str, bytes]] | None = None,
    seed: int = 0,
    command: str = "",
) -> PageContent:
    """Build the content of the page of finished runs.

    Args:
        comparisons: Of each model.
        runs: That were compared.
        unused: Runs that take no part.
        figures: {model: {file name: PNG}}.
        seed: Of the bootstrap.
        command: That made the report, where it was a command of its own.

    Returns:
        The content.
    """
    groups = [_select_runs(comparison, runs) for comparison in comparisons]
    maps = sum(len(group) * comparison.joined.images for comparison, group in zip(comparisons, groups, strict=True))
    models = [
        _build_model_view(comparison, group, maps, (figures or {}).get(comparison.joined.model, {}), seed)
        for comparison, group in zip(comparisons, groups, strict=True)
    ]
    explainers = list(dict.fromkeys(run.explainer for run in runs))
    what = explainers[0] if len(explainers) == 1 else f"{len(explainers)} explainers"
    names = [comparison.joined.model for comparison in comparisons]
    title = f"{what} on {names[0] if len(names) == 1 else f'{len(names)} models'}"
    images = comparisons[0].joined.images
    subtitle = f"{images:,} image{'s' if images != 1 else ''}, target: {comparisons[0].joined.target}"
    return PageContent(title, subtitle, models, list_unused_runs(unused), command)


def _select_runs(comparison: Comparison, runs: Sequence[Run]) -> list[Run]:
    folders = set(comparison.joined.explainers["folder"])
    return [run for run in runs if str(run.folder) in folders]


def _build_model_view(
    comparison: Comparison, runs: Sequence[Run], maps: int, figures: Mapping[str, bytes], seed: int
) -> ModelView:
    methods = list_methods(comparison, runs)
    gallery = build_gallery(comparison, methods, maps)
    curves = {each.label: table for each in methods if (table := read_curves(each.run.folder)) is not None}
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
        board=tables.build_board(comparison),
        scores=tables.build_scores(comparison.summary),
        pairs=tables.build_pair_tables(comparison),
        ranks=tables.build_rank_table(comparison),
        variants=facts,
        methods=[_describe_method(comparison, method) for method in methods],
        charts=build_curve_charts(curves, [method.label for method in methods if method.control], seed),
        figures={
            name: (FIGURES[name], build_data_url(compress_figure(figures[name]))) for name in FIGURES if name in figures
        },
        robust=[view for method in methods if (view := build_robustness_view(method)) is not None],
        gallery=gallery,
    )


def _describe_method(comparison: Comparison, method: Method) -> dict[str, Any]:
    row = comparison.joined.explainers.loc[method.label]
    return {
        "name": method.label,
        "signed": method.signed,
        "control": method.control,
        **{str(k): v for k, v in row.items()},
    }
