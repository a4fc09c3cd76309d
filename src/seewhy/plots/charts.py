"""A page with axes, lines and marks, which matplotlib draws: scales from values to pixels and the marks of verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator

from seewhy.plots.canvas import Box, Layout, Words
from seewhy.plots.heatmaps import INK, MUTED
from seewhy.plots.text import FAMILY, LEADING, RESOLUTION, measure_width

BLUE, VERMILION = "#0072b2", "#d55e00"
MARK_SIZE = 7.5
TITLE, BODY, SMALL = 11.0, 8.5, 7.5
MARGIN = 50
MARK_STYLES: dict[str, dict[str, Any]] = {
    "best": {"marker": "D", "color": VERMILION, "markersize": 6.5},
    "yes": {"marker": "o", "color": BLUE},
    "no": {"marker": "o", "color": BLUE, "markerfacecolor": "white", "markeredgewidth": 1.4},
    "worse": {"marker": "X", "color": BLUE},
    "untested": {"marker": "^", "color": BLUE, "markerfacecolor": "white", "markeredgewidth": 1.4},
    "control": {"marker": "s", "color": MUTED, "markersize": 6},
    "": {"marker": "o", "color": BLUE},
}
"""Marks of verdicts, told apart by shape and filling, not by colour alone."""
MARK_WORDS = {
    "best": "leads",
    "yes": "significantly better than random",
    "no": "n.s.: not significantly better than random",
    "worse": "significantly worse than random",
    "untested": "too few images for a test against random",
    "control": "random baseline",
    "": "mean",
}


class Chart(Layout):
    """Boxes, words and, through `axes`, whatever matplotlib can plot in pixels of the page.

    Args:
        width: Width of the page in pixels.
        resolution: Pixels an inch.
    """

    def __init__(self, width: int, resolution: int = RESOLUTION) -> None:
        super().__init__(width, resolution)
        self.figure = Figure(dpi=resolution, facecolor="white")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()

    def finish(self, height: float) -> Figure:
        """Give the page its height.

        Args:
            height: In pixels.

        Returns:
            The figure.
        """
        for item in self.items:
            if isinstance(item, Box):
                self.axes.add_artist(
                    Rectangle((item.x, item.y), item.width, item.height, facecolor=item.fill, linewidth=0)
                )
            if isinstance(item, Words):
                self._add_words(item)
        rows = round(height)
        self.figure.set_size_inches(self.width / self.resolution, rows / self.resolution)
        self.axes.set(xlim=(0, self.width), ylim=(rows, 0))
        return self.figure

    def _add_words(self, words: Words) -> None:
        font = FontProperties(family=FAMILY, weight="bold" if words.bold else "normal", size=words.size)
        text = Text(
            words.x, words.y, words.text, color=words.colour, fontproperties=font, parse_math=False, usetex=False
        )
        text.set(rotation=90 * words.upwards, va="center" if words.upwards else "baseline")
        text.set(ha="right" if words.upwards else words.ha, transform=self.axes.transData)
        self.axes.add_artist(text)


@dataclass(frozen=True)
class Scale:
    """A linear scale from values to pixels.

    Args:
        low: The value at `start`.
        high: The value at `end`.
        start: In pixels; it may be larger than `end`.
        end: In pixels.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """List ticks at round values.

        Args:
            most: Largest number of ticks.

        Returns:
            (pixel, label) of each.
        """
        values = MaxNLocator(most - 1, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        inside = [float(value) for value in values if self.low <= value <= self.high]
        return [(self(value), f"{round(value, 10) + 0:g}".replace("-", "−")) for value in inside]


@dataclass(frozen=True)
class CostScale:
    """A logarithmic scale of costs, on which zero has a position of its own.

    Args:
        scale: From log10 of costs to pixels.
        zero: log10 of the cost where zero stands; None where no cost is zero.
    """

    scale: Scale
    zero: float | None

    def __call__(self, cost: float) -> float:
        """Return the pixel of a cost."""
        return self.scale(math.log10(cost) if cost > 0 or self.zero is None else self.zero)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """List ticks at powers of ten, or at 1, 2 and 5 where there are few powers; and at zero.

        Args:
            most: Largest number of ticks beside zero.

        Returns:
            (pixel, label) of each.
        """
        low, high = (self.zero or self.scale.low) + (0.3 if self.zero is not None else 0), self.scale.high
        decades = math.floor(high) - math.ceil(low) + 1
        subs = [1.0] if decades >= 3 else [1.0, 2.0, 5.0]
        values = LogLocator(subs=subs, numticks=most).tick_values(10**low, 10**high)
        inside = [float(value) for value in values if low <= math.log10(value) <= high]
        zero = [(self.scale(self.zero), "0")] if self.zero is not None else []
        return zero + [(self(value), f"{value:.3g}" if value < 100 else f"{value:,.0f}") for value in inside]


def build_value_scale(values: list[float], start: float, end: float, pad: float = 0.06) -> Scale:
    """Build a scale that holds all finite values with a margin on both sides.

    Args:
        values: They may hold NaN.
        start: Pixel of the lower end.
        end: Pixel of the upper end.
        pad: Margin as a share of the range of the values.

    Returns:
        The scale, also for equal values and for none.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    margin = pad * (high - low) or abs(high) / 10 or 1.0
    return Scale(low - margin, high + margin, start, end)


def build_cost_scale(costs: list[float], start: float, end: float) -> CostScale:
    """Build a scale that holds all finite costs; zeros stand a little left of the smallest other cost.

    Args:
        costs: From 0 upwards; they may hold NaN.
        start: Pixel of the lower end.
        end: Pixel of the upper end.

    Returns:
        The scale.
    """
    positive = [math.log10(cost) for cost in costs if math.isfinite(cost) and cost > 0] or [0.0]
    zero = min(positive) - max(0.6, 0.15 * (max(positive) - min(positive))) if 0 in costs else None
    exponents = positive if zero is None else [zero, *positive]
    return CostScale(build_value_scale(exponents, start, end), zero)


def draw_mark(page: Chart, x: float, y: float, kind: str, colour: str | None = None) -> None:
    """Draw the mark of a verdict.

    Args:
        page: The chart.
        x: In pixels.
        y: In pixels.
        kind: A key of `MARK_STYLES`.
        colour: Of the mark; None: that of the verdict.
    """
    style = {"markersize": MARK_SIZE, "linestyle": "none", "zorder": 4, **MARK_STYLES[kind]}
    style |= {"color": colour} if colour else {}
    page.axes.plot([x], [y], **style)


def draw_line(
    page: Chart, xs: Iterable[float], ys: Iterable[float], colour: str = INK, width: float = 1.0, **style: Any
) -> None:
    """Draw a line through points.

    Args:
        page: The chart.
        xs: In pixels.
        ys: In pixels.
        colour: As #rrggbb.
        width: In points.
        **style: Further properties of matplotlib's Line2D.
    """
    page.axes.plot(
        list(xs), list(ys), color=colour, linewidth=width, **{"zorder": 2, "solid_capstyle": "butt", **style}
    )


def draw_legend(
    page: Chart, y: float, kinds: Iterable[str], changed: Mapping[str, str] = MappingProxyType({})
) -> float:
    """Draw marks with their words on one line, broken where the page ends.

    Args:
        page: The chart.
        y: Top of the legend in pixels.
        kinds: Keys of `MARK_WORDS`.
        changed: Words that stand instead of those of `MARK_WORDS`.

    Returns:
        The y below the legend.
    """
    x, step = float(MARGIN), page.pixels(LEADING * BODY)
    for kind in kinds:
        words = changed.get(kind, MARK_WORDS[kind])
        width = page.pixels(measure_width(words, BODY)) + 60
        if x + width > page.width - MARGIN and x > MARGIN:
            x, y = float(MARGIN), y + step
        draw_mark(page, x + 10, y + step / 2, kind)
        page.text(x + 28, y + 0.75 * step, words, BODY)
        x += width
    return y + step
