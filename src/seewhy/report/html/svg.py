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
    """One line of a chart; `style` is its number in the page's palette."""

    name: str
    style: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = field(default=())
    high: Sequence[float] = field(default=())
    quiet: bool = False
    """Drawn dashed and grey: a control."""


@dataclass(frozen=True)
class Chart:
    """Lines over one pair of axes; without a range `y` goes from 0 (or the lowest value) to 1 (or the highest)."""

    title: str
    x_label: str
    lines: Sequence[Line]
    x_ticks: int = 6

    def svg(self) -> Markup:
        """The drawing, described in words for those who do not see it."""
        xs = [x for line in self.lines for x in line.x]
        ys = [y for line in self.lines for y in (*line.y, *line.low, *line.high) if math.isfinite(y)]
        across = Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, LEFT, WIDTH - RIGHT)
        upwards = Scale(min([0.0, *ys]), max([1.0, *ys]), HEIGHT - BOTTOM, TOP)
        parts = [_axes(across, upwards, self.x_label, self.x_ticks)]
        parts += [_band(line, across, upwards) for line in self.lines if len(line.low)]
        parts += [_line(line, across, upwards) for line in self.lines]
        said = f"{self.title}: {', '.join(line.name for line in self.lines)}, over {self.x_label}"
        return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            WIDTH, HEIGHT, said, Markup("").join(parts)
        )


def _axes(across: Scale, upwards: Scale, label: str, most: int) -> Markup:
    drawn = []
    for place, words in upwards.ticks(6):
        drawn.append(_rule(across.start, across.end, place, place))
        drawn.append(_text(across.start - 6, place + 3.5, words, "end"))
    for place, words in across.ticks(most):
        drawn.append(_rule(place, place, upwards.start, upwards.start + 4))
        drawn.append(_text(place, upwards.start + 15, words, "middle"))
    drawn.append(_text((across.start + across.end) / 2, HEIGHT - 3, label, "middle"))
    return Markup("").join(drawn)


def _rule(x1: float, x2: float, y1: float, y2: float) -> Markup:
    return Markup(f'<path class="rule" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return Markup(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>')


def _line(line: Line, across: Scale, upwards: Scale) -> Markup:
    places = [(across(x), upwards(y)) if math.isfinite(y) else None for x, y in zip(line.x, line.y, strict=True)]
    path = "".join(_path([place for place in run if place]) for known, run in groupby(places, bool) if known)
    kind = "line quiet" if line.quiet else f"line c{line.style % 8}" + (" dashed" if line.style >= 8 else "")
    return Markup('<path class="{}" d="{}"><title>{}</title></path>').format(kind, path, line.name)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _band(line: Line, across: Scale, upwards: Scale) -> Markup:
    rows = [row for row in zip(line.x, line.low, line.high, strict=True) if all(map(math.isfinite, row))]
    if not rows:
        return Markup("")
    there = [(across(x), upwards(low)) for x, low, _ in rows]
    back = [(across(x), upwards(high)) for x, _, high in reversed(rows)]
    return Markup(f'<path class="band c{line.style % 8}" d="{_path([*there, *back])}Z"/>')
