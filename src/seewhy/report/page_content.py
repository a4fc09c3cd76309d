"""Everything that a page shows, put together from comparisons and run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seewhy.report import page_facts, page_tables
from seewhy.report.comparison import Comparison
from seewhy.report.embed import data_address, smaller
from seewhy.report.find_runs import Unused
from seewhy.report.page_charts import curve_charts
from seewhy.report.page_files import read_curves
from seewhy.report.page_gallery import Gallery, Method, gallery, methods_of
from seewhy.report.page_robustness import Robust, robust_of
from seewhy.report.run_files import Run
from seewhy.report.svg_chart import Chart

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
    robust: list[Robust]
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


def page_content(
    comparisons: Sequence[Comparison],
    runs: Sequence[Run],
    unused: Sequence[Unused] = (),
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
    return PageContent(title, subtitle, models, page_facts.unused_runs(unused), command)


def _runs_of(made: Comparison, runs: Sequence[Run]) -> list[Run]:
    folders = set(made.joined.explainers["folder"])
    return [run for run in runs if str(run.folder) in folders]


def _model_view(made: Comparison, runs: Sequence[Run], maps: int, figures: Mapping[str, bytes], seed: int) -> ModelView:
    methods = methods_of(made, runs)
    shown = gallery(made, methods, maps)
    tables = {one.label: table for one in methods if (table := read_curves(one.run.folder)) is not None}
    facts = {
        metric: {"variant": fact.variant, "better": fact.better or ""} for metric, fact in made.joined.facts.items()
    }
    return ModelView(
        label=made.joined.model,
        facts=page_facts.model_facts(runs, made),
        commands=page_facts.commands(runs),
        cautions=page_facts.cautions(made, methods, shown),
        skipped=page_facts.skipped_images(runs),
        board=page_tables.board(made),
        scores=page_tables.all_scores(made.summary),
        pairs=page_tables.pair_tables(made),
        ranks=page_tables.rank_table(made),
        variants=facts,
        methods=[_method(made, one) for one in methods],
        charts=curve_charts(tables, [one.label for one in methods if one.control], seed),
        figures={name: (FIGURES[name], data_address(smaller(figures[name]))) for name in FIGURES if name in figures},
        robust=[found for one in methods if (found := robust_of(one)) is not None],
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
