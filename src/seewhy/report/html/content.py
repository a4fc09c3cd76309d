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
