"""The figure ranks.png: average ranks with Nemenyi's critical difference, one diagram per metric."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from seewhy.core.errors import UserError
from seewhy.plots.charts import BLUE, BODY, MARGIN, SMALL, VERMILION, Chart, Scale, draw_line
from seewhy.plots.colormaps import INK, MUTED
from seewhy.plots.text import LEADING, measure_width, shorten, wrap
from seewhy.report.comparison import Comparison
from seewhy.report.leaderboard import draw_heading
from seewhy.statistics.ranks import Ranks
from seewhy.statistics.schema import ARROWS
from seewhy.statistics.tests import ALPHA

AXIS, GAP, ROW, BAR, SIDE = 620, 70, 34, 13, 460
NOTE = (
    "Rank 1 is best. A thick bar joins explainers whose average ranks differ by less than the critical difference CD "
    "(Nemenyi, 95 %): these images do not tell them apart. Ranks are over the images where every explainer has a value."
)


def draw_ranks(comparison: Comparison) -> Figure:
    """Draw a critical-difference diagram of each metric, in two columns.

    Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006.

    Args:
        comparison: Of the explainers of one model.

    Returns:
        The figure.

    Raises:
        UserError: If no metric ranks two explainers.
    """
    ranked = {metric: ranks for metric, ranks in comparison.ranks.items() if len(ranks.explainers) > 1 and ranks.n}
    if not ranked:
        raise UserError("ranks need two explainers with values of one metric; give runs= of several explainers")
    names = [name for ranks in ranked.values() for name in ranks.explainers]
    page = Chart(100)
    longest = max(page.pixels(measure_width(shorten(name, 1e9, BODY), BODY)) for name in names)
    side = min(SIDE, math.ceil(longest + page.pixels(measure_width("  10.00", BODY))) + 24)
    width = AXIS + 2 * side
    columns = min(2, len(ranked))
    page = Chart(2 * MARGIN + columns * (width + GAP) - GAP)
    y = draw_heading(page, comparison) + 10
    items = list(ranked.items())
    for first in range(0, len(items), columns):
        row = items[first : first + columns]
        y = max(
            _draw_diagram(page, MARGIN + i * (width + GAP), y, side, *item, comparison) for i, item in enumerate(row)
        )
    y = page.lines(MARGIN, y, wrap(NOTE, page.points(page.width - 2 * MARGIN), SMALL), SMALL, MUTED)
    return page.finish(y + MARGIN * 0.6)


def _draw_diagram(
    page: Chart, x: float, y: float, side: int, metric: str, ranks: Ranks, comparison: Comparison
) -> float:
    """One metric; the y below it."""
    room = page.points(AXIS + 2 * side)
    title = f"{metric.replace('_', ' ')} {ARROWS[comparison.joined.facts[metric].better]}"
    y = page.lines(x, y, [shorten(title, room, BODY, bold=True)], BODY, weight="bold")
    y = page.lines(x, y, wrap(_write_verdict(ranks), room, SMALL), SMALL, MUTED)
    first, last = _find_ends(ranks)
    scale = Scale(first, last, x + side, x + side + AXIS)
    told = ranks.p < ALPHA
    if told:
        y = _draw_critical_difference(page, y, scale, ranks)
    y += page.pixels(LEADING * SMALL) + 16
    _draw_axis(page, y, scale, first, last)
    groups = ranks.find_groups() if told else []
    below = y + 22
    for number, (best, worst) in enumerate(groups):
        ends = [scale(ranks.average[best]) - 8, scale(ranks.average[worst]) + 8]
        draw_line(page, ends, [below + number * BAR] * 2, VERMILION, 3.6, zorder=3)
    return _draw_names(page, x, y, below + len(groups) * BAR + ROW / 2, side, scale, ranks) + GAP * 0.7


def _find_ends(ranks: Ranks) -> tuple[int, int]:
    """The ranks at the ends of the axis: all, or (over ten explainers) those that occur."""
    count = len(ranks.explainers)
    return (1, count) if count <= 10 else (math.floor(ranks.average[0]), math.ceil(ranks.average[-1] + 1e-9))


def _write_verdict(ranks: Ranks) -> str:
    if math.isnan(ranks.p):
        return ranks.note
    p = "p < 0.0001" if ranks.p < 1e-4 else f"p = {ranks.p:.2g}"
    end = "" if ranks.p < ALPHA else ": no difference found, so no bar is drawn"
    note = f"; {ranks.note}" if ranks.note else ""
    return f"n = {ranks.n} images, Friedman {p}{end}{note}"


def _draw_critical_difference(page: Chart, y: float, scale: Scale, ranks: Ranks) -> float:
    """The bar whose length is CD, above the start of the axis; the y below it."""
    length = scale(scale.low + ranks.critical_difference) - scale.start
    middle = y + page.pixels(LEADING * SMALL) / 2
    end = scale.start + min(length, scale.end - scale.start)
    draw_line(page, [scale.start, end], [middle, middle], VERMILION, 2)
    for tick in (scale.start, end):
        draw_line(page, [tick, tick], [middle - 6, middle + 6], VERMILION, 2)
    words = f"CD = {ranks.critical_difference:.2f}" + (
        " (longer than the axis)" if length > scale.end - scale.start else ""
    )
    page.text(end + 12, middle + page.pixels(0.36 * SMALL), words, SMALL, MUTED)
    return y + page.pixels(LEADING * SMALL)


def _draw_axis(page: Chart, y: float, scale: Scale, first: int, last: int) -> None:
    draw_line(page, [scale.start, scale.end], [y, y], INK, 1.2)
    stride = -(-(last - first + 1) // 12)
    for position in range(first, last + 1):
        labelled = (position - first) % stride == 0
        draw_line(page, [scale(position)] * 2, [y - (9 if labelled else 5), y], INK, 1.0)
        if labelled:
            page.text(scale(position), y - 14, str(position), SMALL, MUTED, ha="center")


def _draw_names(page: Chart, x: float, axis: float, y: float, side: int, scale: Scale, ranks: Ranks) -> float:
    """The better half on the left and the rest on the right, each on a line of its own; the y below them."""
    count = len(ranks.explainers)
    half = -(-count // 2)
    room = page.points(side - 24)
    for position, (name, average) in enumerate(zip(ranks.explainers, ranks.average, strict=True)):
        left = position < half
        at = y + ROW * (position if left else count - 1 - position)
        edge = x + side - 14 if left else x + side + AXIS + 14
        draw_line(page, [scale(average), scale(average), edge], [axis, at, at], BLUE if left else MUTED, 1.0)
        text = shorten(name, room, BODY, f"  {average:.2f}") if left else _write_right(name, average, room)
        style = {"ha": "right"} if left else {"ha": "left"}
        page.text(edge - 8 if left else edge + 8, at + page.pixels(0.36 * BODY), text, BODY, **style)
    return y + ROW * half


def _write_right(name: str, average: float, room: float) -> str:
    number = f"{average:.2f}  "
    return number + shorten(name, room - measure_width(number, BODY), BODY)
