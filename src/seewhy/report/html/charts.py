"""Charts of the page as inline SVG, coloured by its style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from seewhy.plots.charts import Scale, build_value_scale
from seewhy.plots.curves import compute_difference_curve, compute_mean_curve, describe_quantity, name_share
from seewhy.report.comparison import CONTROLS, Comparison
from seewhy.report.constructs import ConstructRanks

WIDTH, HEIGHT = 340, 236
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

    Differences have a line at 0, and y goes as far as lines and bands do.

    Args:
        title: Of the chart.
        x_label: Of the horizontal axis.
        lines: To draw.
        x_ticks: Largest number of ticks on the horizontal axis.
        quantity: What the vertical axis shows, in words.
        differences: Whether the lines are differences, which are read from 0.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    x_ticks: int = 6
    quantity: str = ""
    differences: bool = False

    def svg(self) -> Markup:
        """Draw the chart, described in words for those who do not see it."""
        xs = [x for line in self.lines for x in line.x]
        means = [y for line in self.lines for y in line.y if math.isfinite(y)]
        ends = [end for line in self.lines for end in (*line.low, *line.high) if math.isfinite(end)]
        across = Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, LEFT, WIDTH - RIGHT)
        if self.differences:
            upwards = build_value_scale([0.0, *means, *ends], HEIGHT - BOTTOM, TOP)
        else:
            ys = means + (ends if min(means, default=0) < 0 or max(means, default=1) > 1 else [])
            upwards = Scale(min([0.0, *ys]), max([1.0, *ys]), HEIGHT - BOTTOM, TOP)
        shapes = [_draw_axes(across, upwards, self.x_label, self.x_ticks)]
        if self.differences:
            shapes.append(Markup(f'<path class="zero" d="M{LEFT} {upwards(0):.1f}H{WIDTH - RIGHT}"/>'))
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
class IntervalChart:
    """One value for each method with its 95 % interval and its verdict, such as the difference of a score from random.

    Args:
        metric: The score.
        better: Which end of it is better.
        rows: (method, value, low, high, verdict, whether it is a control), in the order of the leaderboard.
        words: What the horizontal axis shows.
        ends: Values that the axis holds in any case.
    """

    metric: str
    better: str
    rows: Sequence[tuple[str, float, float, float, str, bool]]
    words: str = "difference from random; right: better"
    ends: Sequence[float] = (0.0,)

    def svg(self) -> Markup:
        """Draw the chart, described in words for those who do not see it."""
        height = TOP + ROW * len(self.rows) + 30
        ends = [*self.ends, *(value for row in self.rows for value in row[1:4] if math.isfinite(value))]
        across = build_value_scale(ends, LABELS, WIDTH - RIGHT)
        bottom = height - 30
        shapes = []
        for tick, words in across.ticks(5):
            shapes.append(_draw_rule(tick, tick, TOP, bottom))
            shapes.append(_draw_text(tick, bottom + 13, words, "middle"))
        zero = Markup(f'<path class="zero" d="M{across(0):.1f} {TOP}V{bottom}"/>')
        label = _draw_text((LABELS + WIDTH - RIGHT) / 2, height - 3, self.words, "middle")
        marks = [self._draw_row(row, TOP + ROW * (number + 0.5), across) for number, row in enumerate(self.rows)]
        said = "; ".join(
            f"{name} {value:.3g}, {VERDICTS.get(verdict, verdict)}" for name, value, _, _, verdict, _ in self.rows
        )
        return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            WIDTH,
            height,
            f"{self.metric}, {self.words.partition(';')[0]}: {said}",
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


def build_difference_charts(comparison: Comparison, construct: ConstructRanks) -> list[IntervalChart]:
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
            charts.append(IntervalChart(metric, better, rows))
    return charts


SANITY = {
    "model_randomization": "random weights",
    "random_logit": "another class",
    "stability": "small noise",
}
"""Scores that compare two maps of an image, and what was changed between them."""


def build_sanity_strip(comparison: Comparison) -> list[IntervalChart]:
    """Build one chart for each thing that was changed: how alike the maps stay, on one scale from 0 to 1.

    Args:
        comparison: Of the explainers of one model.

    Returns:
        The charts in the order of `SANITY`; none where no such score was measured.
    """
    charts = []
    for metric, changed in SANITY.items():
        if metric not in comparison.ranks:
            continue
        better = str(comparison.joined.facts[metric].better)
        rows = [
            (
                name,
                *comparison.get_mean(name, metric),
                comparison.get_verdict(name, metric),
                bool(comparison.leaderboard["control"][name]),
            )
            for name in comparison.explainers
        ]
        if any(math.isfinite(row[1]) for row in rows):
            side = "left" if better == "lower" else "right"
            charts.append(
                IntervalChart(changed, better, rows, f"similarity of the two maps; {side}: better", (0.0, 1.0))
            )
    return charts


def build_difference_curves(tables: Mapping[str, pd.DataFrame], control: str | None, seed: int = 0) -> list[Chart]:
    """Build one chart per perturbation curve: how far each method is from random on the same images, with 95 % bands.

    Args:
        tables: {label: curves.csv}.
        control: Label of `random`; None: it was not run.
        seed: Of the bootstrap.

    Returns:
        The charts by name of the curve; none without a random baseline.
    """
    if control is None or control not in tables:
        return []
    charts = []
    for name, others in tables[control].groupby("curve"):
        lines = []
        for number, (label, table) in enumerate(tables.items()):
            rows = table[table["curve"] == name]
            if label == control or rows.empty:
                continue
            difference = compute_difference_curve(rows, others, seed)
            if difference is not None:
                x, mean, low, high = (values.tolist() for values in difference)
                lines.append(Line(label, number, x, mean, low, high, label in CONTROLS))
        if lines:
            title, quantity = write_curve_name(str(name)), describe_quantity(others)
            charts.append(Chart(title, name_share(str(name)), lines, quantity=quantity, differences=True))
    return charts


def write_curve_name(curve: str) -> str:
    """Write the name of a curve in words, such as `deletion / black`."""
    return curve.replace("_", " ").replace("/", " / ")


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
        charts.append(Chart(write_curve_name(name), name_share(name), lines, quantity=quantity))
    return charts


@dataclass(frozen=True)
class ScatterChart:
    """One dot for each image: the probability of its prediction, and how far the methods agree on it.

    Args:
        dots: (image, probability in [0, 1], agreement in [-1, 1], `yes`, `no` or nothing: whether the prediction is right).
    """

    dots: Sequence[tuple[str, float, float, str]]

    def svg(self) -> Markup:
        """Draw the chart, described in words for those who do not see it."""
        across = Scale(0, 1, LEFT, WIDTH - RIGHT)
        upwards = Scale(min(0.0, *(dot[2] for dot in self.dots)), 1, HEIGHT - BOTTOM, TOP)
        shapes = [_draw_axes(across, upwards, "probability of the prediction", 6)]
        for image, probability, agreement, correct in self.dots:
            kind = {"yes": "right", "no": "wrong"}.get(correct, "")
            shape = Markup(
                '<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4" data-image="{}"><title>{}</title></circle>'
            )
            words = f"{image}: probability {probability:.3g}, agreement {agreement:.2f}"
            shapes.append(shape.format(kind, across(probability), upwards(agreement), image, words))
        words = f"agreement of the methods over the probability of the prediction, {len(self.dots)} images"
        return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            WIDTH, HEIGHT, words, Markup("").join(shapes)
        )


def build_agreement_chart(images: Sequence[Mapping[str, Any]]) -> ScatterChart | None:
    """Build the chart of probability and agreement.

    Args:
        images: Rows of the gallery's facts.

    Returns:
        The chart; None where fewer than two images have both.
    """
    dots = [
        (str(row["name"]), float(row["probability"]), float(row["agreement"]), str(row["correct"]))
        for row in images
        if math.isfinite(row["probability"]) and math.isfinite(row["agreement"])
    ]
    return ScatterChart(dots) if len(dots) > 1 else None
