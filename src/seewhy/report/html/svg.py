"""Lines with bands as inline SVG: sharp at any size, coloured by the style sheet of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from markupsafe import Markup, escape

from seewhy.plots.charts import Scale

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
        quiet: Whether it is dashed and grey: a control.
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
    """Lines over one pair of axes, y from 0 (or the lowest value) to 1 (or the highest).

    Args:
        title: Of the chart.
        x_label: Of the horizontal axis.
        lines: To draw.
        x_ticks: Largest number of ticks on the horizontal axis.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    x_ticks: int = 6

    def svg(self) -> Markup:
        """Draw the chart, described in words for those who do not see it."""
        xs = [x for line in self.lines for x in line.x]
        ys = [y for line in self.lines for y in (*line.y, *line.low, *line.high) if math.isfinite(y)]
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
    kind = "line quiet" if line.quiet else f"line c{line.style % 8}" + (" dashed" if line.style >= 8 else "")
    return Markup('<path class="{}" d="{}"><title>{}</title></path>').format(kind, path, line.name)


def _write_path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _draw_band(line: Line, across: Scale, upwards: Scale) -> Markup:
    rows = [row for row in zip(line.x, line.low, line.high, strict=True) if all(map(math.isfinite, row))]
    if not rows:
        return Markup("")
    there = [(across(x), upwards(low)) for x, low, _ in rows]
    back = [(across(x), upwards(high)) for x, _, high in reversed(rows)]
    return Markup(f'<path class="band c{line.style % 8}" d="{_write_path([*there, *back])}Z"/>')
