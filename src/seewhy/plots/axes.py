"""Axes and marks of a chart: scales from values to pixels, lines, and the marks of verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import LogLocator, MaxNLocator

from seewhy.plots.canvas import LEADING, measure_width
from seewhy.plots.charts import Chart
from seewhy.plots.colormaps import INK, MUTED

BLUE, VERMILION = "#0072b2", "#d55e00"
MARK_SIZE = 7.5
TITLE, BODY, SMALL = 11.0, 8.5, 7.5
MARGIN = 50
MARK_STYLES: dict[str, dict[str, Any]] = {
    "best": {"marker": "D", "color": VERMILION, "markersize": 6.5},
    "yes": {"marker": "o", "color": BLUE},
    "no": {"marker": "o", "color": BLUE, "markerfacecolor": "white", "markeredgewidth": 1.4},
    "untested": {"marker": "^", "color": BLUE, "markerfacecolor": "white", "markeredgewidth": 1.4},
    "control": {"marker": "s", "color": MUTED, "markersize": 6},
    "": {"marker": "o", "color": BLUE},
}
MARK_WORDS = {
    "best": "best mean (where random is there, it is beaten)",
    "yes": "beats random",
    "no": "does not beat random",
    "untested": "too few images to compare with random",
    "control": "random itself",
    "": "mean",
}


@dataclass(frozen=True)
class Scale:
    """Places values between `start` and `end` (pixels); `start` may be the larger end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """At most `most` (pixel, label) at round values."""
        values = MaxNLocator(most - 1, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        inside = [float(value) for value in values if self.low <= value <= self.high]
        return [(self(value), f"{round(value, 10) + 0:g}".replace("-", "−")) for value in inside]


@dataclass(frozen=True)
class CostScale:
    """A logarithmic scale of costs, with a place of its own for zero."""

    scale: Scale
    zero: float | None
    """log10 of the value in whose place zero stands; None where no cost is zero."""

    def __call__(self, cost: float) -> float:
        """The pixel of a cost."""
        return self.scale(math.log10(cost) if cost > 0 or self.zero is None else self.zero)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """(pixel, label) at powers of ten, or at 1, 2 and 5 where there are few powers; and at zero."""
        low, high = (self.zero or self.scale.low) + (0.3 if self.zero is not None else 0), self.scale.high
        decades = math.floor(high) - math.ceil(low) + 1
        subs = [1.0] if decades >= 3 else [1.0, 2.0, 5.0]
        values = LogLocator(subs=subs, numticks=most).tick_values(10**low, 10**high)
        inside = [float(value) for value in values if low <= math.log10(value) <= high]
        zero = [(self.scale(self.zero), "0")] if self.zero is not None else []
        return zero + [(self(value), f"{value:.3g}" if value < 100 else f"{value:,.0f}") for value in inside]


def build_value_scale(values: list[float], start: float, end: float, pad: float = 0.06) -> Scale:
    """A scale that holds all finite values with a margin on both sides."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    margin = pad * (high - low) or abs(high) / 10 or 1.0
    return Scale(low - margin, high + margin, start, end)


def build_cost_scale(costs: list[float], start: float, end: float) -> CostScale:
    """A scale that holds all finite costs; zeros stand a little left of the smallest other cost."""
    positive = [math.log10(cost) for cost in costs if math.isfinite(cost) and cost > 0] or [0.0]
    zero = min(positive) - max(0.6, 0.15 * (max(positive) - min(positive))) if 0 in costs else None
    known = positive if zero is None else [zero, *positive]
    return CostScale(build_value_scale(known, start, end), zero)


def draw_mark(page: Chart, x: float, y: float, kind: str) -> None:
    """The mark of one kind at a place."""
    style = {"markersize": MARK_SIZE, "linestyle": "none", "zorder": 4, **MARK_STYLES[kind]}
    page.axes.plot([x], [y], **style)


def draw_line(
    page: Chart, xs: Iterable[float], ys: Iterable[float], colour: str = INK, width: float = 1.0, **style: Any
) -> None:
    """A line through places."""
    page.axes.plot(
        list(xs), list(ys), color=colour, linewidth=width, **{"zorder": 2, "solid_capstyle": "butt", **style}
    )


def draw_legend(page: Chart, y: float, kinds: Iterable[str]) -> float:
    """One line of marks with their words, broken where the page ends; the y below it."""
    x, step = float(MARGIN), page.pixels(LEADING * BODY)
    for kind in kinds:
        width = page.pixels(measure_width(MARK_WORDS[kind], BODY)) + 60
        if x + width > page.width - MARGIN and x > MARGIN:
            x, y = float(MARGIN), y + step
        draw_mark(page, x + 10, y + step / 2, kind)
        page.text(x + 28, y + 0.75 * step, MARK_WORDS[kind], BODY)
        x += width
    return y + step
