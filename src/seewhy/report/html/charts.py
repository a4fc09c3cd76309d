"""Charts of the page as inline SVG, coloured by its style sheet, and its view of a robustness run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from seewhy.analyses.robustness.figures import select_curve_quantities
from seewhy.analyses.robustness.summary import CLEAN, select_levels
from seewhy.plots.charts import Scale, build_value_scale
from seewhy.plots.curves import compute_mean_curve, describe_quantity, name_share
from seewhy.report.comparison import Comparison
from seewhy.report.constructs import ConstructRanks
from seewhy.report.html import tables
from seewhy.report.html.gallery import Method
from seewhy.report.html.maps import build_data_url, compress_figure
from seewhy.report.runs import list_sheets, read_figures, read_robustness

WIDTH, HEIGHT = 340, 236
SHEET_SIDE = 2400
"""Largest side in pixels of a sheet on the page; the file beside it is larger."""
LEFT, RIGHT, TOP, BOTTOM = 38, 10, 8, 34


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: Of the line.
        style: Its number in the page's palette.
        x: Of its points.
        y: Of its points; a gap where one is not finite.
        low: Lower edge of its band; empty: no band.
        high: Upper edge of its band.
        quiet: Whether it is grey, with a dash of its own: a control.
    """

    name: str
    style: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = field(default=())
    high: Sequence[float] = field(default=())
    quiet: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over one pair of axes: y from 0 to 1 where all lines stay inside, else as far as lines and bands go.

    Args:
        title: Of the chart.
        x_label: Of the horizontal axis.
        lines: To draw.
        x_ticks: Largest number of ticks on the horizontal axis.
        quantity: What the vertical axis shows, in words.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    x_ticks: int = 6
    quantity: str = ""

    def svg(self) -> Markup:
        """Draw the chart, described in words for those who do not see it."""
        xs = [x for line in self.lines for x in line.x]
        means = [y for line in self.lines for y in line.y if math.isfinite(y)]
        ends = [end for line in self.lines for end in (*line.low, *line.high) if math.isfinite(end)]
        ys = means + (ends if min(means, default=0) < 0 or max(means, default=1) > 1 else [])
        across = Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, LEFT, WIDTH - RIGHT)
        upwards = Scale(min([0.0, *ys]), max([1.0, *ys]), HEIGHT - BOTTOM, TOP)
        shapes = [_draw_axes(across, upwards, self.x_label, self.x_ticks)]
        shapes += [_draw_band(line, across, upwards) for line in self.lines if len(line.low)]
        shapes += [_draw_line(line, across, upwards) for line in self.lines]
        words = f"{self.title}: {', '.join(line.name for line in self.lines)}, over {self.x_label}"
        return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            WIDTH, HEIGHT, words, Markup("").join(shapes)
        )


def _draw_axes(across: Scale, upwards: Scale, label: str, most: int) -> Markup:
    shapes = []
    for tick, words in upwards.ticks(6):
        shapes.append(_draw_rule(across.start, across.end, tick, tick))
        shapes.append(_draw_text(across.start - 6, tick + 3.5, words, "end"))
    for tick, words in across.ticks(most):
        shapes.append(_draw_rule(tick, tick, upwards.start, upwards.start + 4))
        shapes.append(_draw_text(tick, upwards.start + 15, words, "middle"))
    shapes.append(_draw_text((across.start + across.end) / 2, HEIGHT - 3, label, "middle"))
    return Markup("").join(shapes)


def _draw_rule(x1: float, x2: float, y1: float, y2: float) -> Markup:
    return Markup(f'<path class="rule" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')


def _draw_text(x: float, y: float, words: str, anchor: str) -> Markup:
    return Markup(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>')


def _draw_line(line: Line, across: Scale, upwards: Scale) -> Markup:
    points = [(across(x), upwards(y)) if math.isfinite(y) else None for x, y in zip(line.x, line.y, strict=True)]
    runs = (list(filter(None, run)) for finite, run in groupby(points, bool) if finite)
    path = "".join(map(_write_path, runs))
    kind = name_line_style(line)
    return Markup('<path class="{}" d="{}"><title>{}</title></path>').format(kind, path, line.name)


def name_line_style(line: Line) -> str:
    """Name the classes of a line, in the chart and in its legend."""
    if line.quiet:
        return f"line quiet d{line.style % 4}"
    return f"line c{line.style % 8}" + (" dashed" if line.style >= 8 else "")


def _write_path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _draw_band(line: Line, across: Scale, upwards: Scale) -> Markup:
    rows = [row for row in zip(line.x, line.low, line.high, strict=True) if all(map(math.isfinite, row))]
    if not rows:
        return Markup("")
    there = [(across(x), upwards(max(low, upwards.low))) for x, low, _ in rows]
    back = [(across(x), upwards(min(high, upwards.high))) for x, _, high in reversed(rows)]
    colour = "quiet" if line.quiet else f"c{line.style % 8}"
    return Markup(f'<path class="band {colour}" d="{_write_path([*there, *back])}Z"/>')


LABELS, ROW = 132, 21


@dataclass(frozen=True)
class DifferenceChart:
    """The differences of one score from random on the same images, with their 95 % intervals and verdicts.

    Args:
        metric: The score.
        better: Which end of it is better; differences are turned so that the right is better.
        rows: (method, difference, low, high, verdict, whether it is a control), in the order of the leaderboard.
    """

    metric: str
    better: str
    rows: Sequence[tuple[str, float, float, float, str, bool]]

    def svg(self) -> Markup:
        """Draw the chart, described in words for those who do not see it."""
        height = TOP + ROW * len(self.rows) + 30
        ends = [0.0, *(value for row in self.rows for value in row[1:4] if math.isfinite(value))]
        across = build_value_scale(ends, LABELS, WIDTH - RIGHT)
        bottom = height - 30
        shapes = []
        for tick, words in across.ticks(5):
            shapes.append(_draw_rule(tick, tick, TOP, bottom))
            shapes.append(_draw_text(tick, bottom + 13, words, "middle"))
        zero = Markup(f'<path class="zero" d="M{across(0):.1f} {TOP}V{bottom}"/>')
        label = _draw_text((LABELS + WIDTH - RIGHT) / 2, height - 3, "difference from random; right: better", "middle")
        marks = [self._draw_row(row, TOP + ROW * (number + 0.5), across) for number, row in enumerate(self.rows)]
        said = "; ".join(
            f"{name} {value:.3g}, {VERDICTS.get(verdict, verdict)}" for name, value, _, _, verdict, _ in self.rows
        )
        return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            WIDTH,
            height,
            f"{self.metric}, difference from random: {said}",
            Markup("").join([*shapes, zero, label, *marks]),
        )

    def _draw_row(self, row: tuple[str, float, float, float, str, bool], y: float, across: Scale) -> Markup:
        name, value, low, high, verdict, control = row
        short = name if len(name) <= 21 else f"{name[:20]}…"
        reach = f'<path class="reach" d="M{across(low):.1f} {y}H{across(high):.1f}"/>' if math.isfinite(low) else ""
        hollow = "" if verdict == "yes" else ' class="hollow"'
        dot = f'<circle cx="{across(value):.1f}" cy="{y}" r="3.6"{hollow}/>' if math.isfinite(value) else ""
        group = Markup(
            '<g class="bar{}" data-method="{}" data-value="{:.6g}" data-verdict="{}"><title>{}</title>{}{}</g>'
        )
        title = f"{name}: {value:.3g} [{low:.3g}, {high:.3g}], {VERDICTS.get(verdict, verdict)}"
        text = _draw_text(LABELS - 8, y + 3.5, short, "end")
        return group.format(" quiet" if control else "", name, value, verdict, title, text, Markup(reach + dot))


VERDICTS = {
    "yes": "significantly better than random",
    "no": "n.s.",
    "worse": "significantly worse than random",
    "untested": "untested",
}


def build_difference_charts(comparison: Comparison, construct: ConstructRanks) -> list[DifferenceChart]:
    """Build one chart per score of a construct: how far each method is from random on the same images.

    Args:
        comparison: Of the explainers of one model.
        construct: One of the comparison.

    Returns:
        The charts; none without a random baseline.
    """
    control = comparison.joined.control
    charts = []
    for metric in construct.metrics if control else ():
        better = str(comparison.joined.facts[metric].better)
        table = comparison.pairwise[comparison.pairwise["metric"] == metric].to_dict("records")
        pairs = {frozenset((row["explainer"], row["other"])): row for row in table}
        rows = []
        for name in (name for name in construct.explainers if name != control):
            row = pairs[frozenset((name, control))]
            difference, low, high = (float(row[key]) for key in ("difference", "low", "high"))
            if (row["explainer"] == name) != (better == "higher"):
                difference, low, high = -difference, -high, -low
            is_control = bool(comparison.leaderboard["control"][name])
            rows.append((name, difference, low, high, comparison.get_verdict(name, metric), is_control))
        if any(math.isfinite(row[1]) for row in rows):
            charts.append(DifferenceChart(metric, better, rows))
    return charts


def build_curve_charts(tables: Mapping[str, pd.DataFrame], controls: Sequence[str], seed: int = 0) -> list[Chart]:
    """Build one chart per perturbation curve with a line per explainer.

    Every line has its 95 % band.

    Args:
        tables: {label: curves.csv}.
        controls: Labels that are drawn quietly.
        seed: Of the bootstrap.

    Returns:
        The charts by name of the curve.
    """
    names = sorted({str(name) for table in tables.values() for name in table["curve"].unique()})
    charts = []
    for name in names:
        lines = []
        for number, (label, table) in enumerate(tables.items()):
            rows = table[table["curve"] == name]
            if rows.empty:
                continue
            shares, mean, low, high = (values.tolist() for values in compute_mean_curve(rows, seed))
            lines.append(Line(label, number, shares, mean, low, high, label in controls))
        quantity = describe_quantity(next(iter(tables.values())))
        charts.append(Chart(name.replace("_", " ").replace("/", " / "), name_share(name), lines, quantity=quantity))
    return charts


def build_robustness_charts(summary: pd.DataFrame, explainers: Sequence[str]) -> list[Chart]:
    """Build one chart per corruption: accuracy, confidence and stability of the maps over the levels, with 95 % bands.

    Args:
        summary: robustness_summary.csv.
        explainers: Of the run.

    Returns:
        The charts by corruption.
    """
    quantities = select_curve_quantities(list(summary["quantity"].unique()), explainers)
    table = select_levels(summary[summary["quantity"].isin(list(quantities))])
    charts = []
    for corruption in [str(name) for name in table["corruption"].unique() if name != CLEAN]:
        lines = []
        for number, (quantity, words) in enumerate(quantities.items()):
            rows = table[table["corruption"].isin([CLEAN, corruption]) & (table["quantity"] == quantity)]
            rows = rows.sort_values("level")
            level, value, low, high = (rows[name].astype(float).tolist() for name in ("level", "value", "low", "high"))
            lines.append(Line(words, number, level, value, low, high))
        charts.append(Chart(corruption.replace("_", " "), "level (0: clean)", lines))
    return charts


@dataclass(frozen=True)
class RobustnessView:
    """The robustness of one run.

    Args:
        explainer: Its label.
        charts: By corruption.
        heat: Tables of corruptions x levels.
        errors: Over all levels, by corruption.
        sheets: (words, data address) of pictures: those of the most severe level.
        left_out: Number of sheets that are not on the page.
    """

    explainer: str
    charts: list[Chart]
    heat: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    sheets: list[tuple[str, str]]
    left_out: int = 0


def build_robustness_view(method: Method) -> RobustnessView | None:
    """Build charts, tables and sheets of a robustness run.

    Args:
        method: Whose run it is.

    Returns:
        The view; None for any other run.
    """
    summary = read_robustness(method.run.folder)
    if summary is None or summary.empty:
        return None
    explainers = list(method.run.record.get("robustness", {}).get("explainers", {method.run.explainer: ""}))
    quantities = select_curve_quantities(list(summary["quantity"].unique()), explainers)
    names = list_sheets(method.run.folder)
    shown = [name for name in names if _read_level(name) == max(map(_read_level, names))]
    sheets = read_figures(method.run.folder, shown)
    return RobustnessView(
        method.label,
        build_robustness_charts(summary, explainers),
        tables.build_heat_tables(summary, quantities),
        tables.list_corruption_errors(summary),
        [
            (_describe_sheet(name), build_data_url(compress_figure(picture, SHEET_SIDE)))
            for name, picture in sheets.items()
        ],
        len(names) - len(shown),
    )


def _read_level(sheet: str) -> int:
    level = sheet.removeprefix("robustness/level_").removesuffix(".png").partition("_")[0]
    return int(level) if level.isdigit() else 0


def _describe_sheet(sheet: str) -> str:
    level, _, explainer = sheet.removeprefix("robustness/level_").removesuffix(".png").partition("_")
    return f"level {level}" + (f", maps of {explainer}" if explainer else ", images")
