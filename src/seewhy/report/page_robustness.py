"""What a page shows of a robustness run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seewhy.report import page_tables
from seewhy.report.embed import data_address, smaller
from seewhy.report.page_charts import robustness_charts
from seewhy.report.page_files import read_figures, read_robustness, sheet_names
from seewhy.report.page_gallery import Method
from seewhy.report.svg_chart import Chart
from seewhy.robustness.curves import drawn


@dataclass(frozen=True)
class Robust:
    """The robustness of one run."""

    explainer: str
    charts: list[Chart]
    heat: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    sheets: list[tuple[str, str]]
    """(words, data address)"""


def robust_of(method: Method) -> Robust | None:
    """Charts, tables and sheets of a robustness run; None for any other run."""
    summary = read_robustness(method.run.folder)
    if summary is None or summary.empty:
        return None
    explainers = list(method.run.record.get("robustness", {}).get("explainers", {method.run.explainer: ""}))
    quantities = drawn(list(summary["quantity"].unique()), explainers)
    names = sheet_names(method.run.folder)
    sheets = read_figures(method.run.folder, names)
    return Robust(
        method.label,
        robustness_charts(summary, explainers),
        page_tables.heat_rows(summary, quantities),
        page_tables.corruption_errors(summary),
        [(_words(name), data_address(smaller(picture))) for name, picture in sheets.items()],
    )


def _words(sheet: str) -> str:
    level, _, explainer = sheet.removeprefix("robustness/level_").removesuffix(".png").partition("_")
    return f"level {level}" + (f", maps of {explainer}" if explainer else ", images")
