"""How explainers rank in each construct: average ranks with their ties (ranks.png), mean ranks and cost (pareto.png)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.figure import Figure

from seewhy.core.errors import UserError
from seewhy.core.words import count_noun
from seewhy.plots.charts import (
    BLUE,
    BODY,
    MARGIN,
    SMALL,
    VERMILION,
    Chart,
    Scale,
    build_cost_scale,
    build_value_scale,
    draw_line,
    draw_mark,
)
from seewhy.plots.heatmaps import FRAME, INK, MUTED
from seewhy.plots.text import LEADING, Rectangle, build_leader, measure_width, place_labels, shorten, wrap
from seewhy.report.comparison import Comparison
from seewhy.report.constructs import UNSTATED, ConstructRanks
from seewhy.report.leaderboard import draw_construct, draw_heading
from seewhy.statistics.ranks import Ranks
from seewhy.statistics.schema import ARROWS
from seewhy.statistics.tests import ALPHA

AXIS, COLUMN_GAP, ROW, BAR, SIDE = 620, 70, 34, 13, 460
NOTE = (
    "Rank 1 is best. A thick bar joins the methods with a dot on it: no two of them differ significantly (the verdicts of "
    "pairwise.csv and of the leaderboard). Ranks are over the images where every method has a value."
)


def draw_ranks(comparison: Comparison) -> Figure:
    """Draw the average ranks of each metric, construct by construct, in two columns, as critical-difference diagrams.

    Bars join what the paired tests do not tell apart, so that a pair has one verdict everywhere; the diagrams are those of
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
    page = Chart(2 * MARGIN + columns * (width + COLUMN_GAP) - COLUMN_GAP)
    y = draw_heading(page, comparison) + 10
    for construct in comparison.constructs:
        items = [(metric, ranked[metric]) for metric in construct.metrics if metric in ranked]
        y = draw_construct(page, y, construct) if items else y
        for first in range(0, len(items), columns):
            y = max(
                _draw_diagram(page, MARGIN + i * (width + COLUMN_GAP), y, side, *item, comparison)
                for i, item in enumerate(items[first : first + columns])
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
    y += page.pixels(LEADING * SMALL) + 16
    _draw_axis(page, y, scale, first, last)
    groups = comparison.find_ties(metric)
    below = y + 22
    places = dict(zip(ranks.explainers, ranks.average, strict=True))
    for number, group in enumerate(groups):
        level = [below + number * BAR] * 2
        draw_line(page, [scale(places[group[0]]) - 8, scale(places[group[-1]]) + 8], level, VERMILION, 2.4, zorder=3)
        dots = [scale(places[name]) for name in group]
        page.axes.plot(dots, level[:1] * len(dots), "o", color=VERMILION, markersize=4.5, zorder=4)
    return _draw_names(page, x, y, below + len(groups) * BAR + ROW / 2, side, scale, ranks) + COLUMN_GAP * 0.7


def _find_ends(ranks: Ranks) -> tuple[int, int]:
    """The ranks at the ends of the axis: all, or (over ten explainers) those that occur."""
    count = len(ranks.explainers)
    return (1, count) if count <= 10 else (math.floor(ranks.average[0]), math.ceil(ranks.average[-1] + 1e-9))


def _write_verdict(ranks: Ranks) -> str:
    if math.isnan(ranks.p):
        return ranks.note
    p = "p < 0.0001" if ranks.p < 1e-4 else f"p = {ranks.p:.2g}"
    end = "" if ranks.p < ALPHA else ": no significant difference of ranks"
    note = f"; {ranks.note}" if ranks.note else ""
    return f"n = {ranks.n} images, Friedman {p}{end}{note}"


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


def find_pareto_front(costs: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Find the points that no other point matches in cost and loss while beating it in one of them.

    Args:
        costs: Lower is better; a point with NaN is never on the front.
        losses: Likewise.

    Returns:
        Positions of the points on the front, cheapest first.
    """
    points = [(*pair, position) for position, pair in enumerate(zip(costs, losses, strict=True))]
    finite = sorted(point for point in points if point[0] == point[0] and point[1] == point[1])
    return [
        position
        for cost, loss, position in finite
        if not any(a <= cost and b <= loss and (a < cost or b < loss) for a, b, _ in finite)
    ]


WIDTH, GAP, LEFT = 1150, 70, 110
HEIGHTS = 860, 620
"""Of one row of panels, and of each of several."""
COSTS = {"passes": "passes through the network per image (forward and backward)", "seconds": "seconds per image"}
FAITHFULNESS = "faithfulness"
NO_RANK = "no construct has a score that ranks every explainer; set faithfulness=<metric>"


@dataclass(frozen=True)
class Standing:
    """The vertical axis: a value of each explainer that has one.

    Args:
        words: What the values are.
        names: Labels of the explainers.
        values: Of the explainers.
        ends: The interval of each value; NaN where there is none.
        lower_is_better: Whether the best value is the lowest.
    """

    words: str
    names: list[str]
    values: list[float]
    ends: list[tuple[float, float]]
    lower_is_better: bool


def build_standings(comparison: Comparison, metric: str | None = None) -> list[Standing]:
    """Build the vertical axes, one for each row of panels.

    Args:
        comparison: Of the explainers of one model.
        metric: Of faithfulness, whose means are shown; None: the mean rank in each construct that has one.

    Returns:
        The values, those of a metric with their intervals.

    Raises:
        UserError: If the metric was not measured, has no direction or measures something else, or nothing is ranked.
    """
    if metric is None:
        standings = [_rank_standing(construct) for construct in comparison.constructs if construct.is_ranked]
        if not standings:
            raise UserError(NO_RANK)
        return standings
    constructs = {name: construct.title for construct in comparison.constructs for name in construct.metrics}
    choice = ", ".join(name for name, title in constructs.items() if title in (FAITHFULNESS, UNSTATED)) or "none here"
    if metric not in constructs:
        raise UserError(f"faithfulness={metric} is none of the metrics with a direction that measure it: {choice}")
    if constructs[metric] not in (FAITHFULNESS, UNSTATED):
        raise UserError(f"faithfulness={metric} measures {constructs[metric]}; metrics of faithfulness: {choice}")
    board = comparison.leaderboard.dropna(subset=[metric])
    if board.empty:
        raise UserError(f"faithfulness={metric} has no value for any explainer; choose another metric: {choice}")
    names, values = [str(name) for name in board.index], [float(value) for value in board[metric]]
    lower = comparison.joined.facts[metric].better == "lower"
    words = f"{metric.replace('_', ' ')} ({'lower' if lower else 'higher'} is better)"
    ends = [comparison.get_mean(name, metric)[1:] for name in names]
    return [Standing(words, names, values, [(low, high) for low, high in ends], lower)]


def _rank_standing(construct: ConstructRanks) -> Standing:
    count = len(construct.counted)
    words = f"{construct.title}: mean rank over {count_noun(count, 'score')} (1 is best)"
    names, values = construct.explainers, list(construct.mean_ranks.values())
    return Standing(words, names, values, [(math.nan, math.nan)] * len(names), True)


def draw_pareto(comparison: Comparison, metric: str | None = None) -> Figure:
    """Draw the mean rank in each construct (better is up) against passes and against seconds.

    The front joins what no other explainer beats in both.

    Args:
        comparison: Of the explainers of one model.
        metric: Of faithfulness, whose means are drawn instead; None: the mean ranks.

    Returns:
        The figure.

    Raises:
        UserError: As `build_standings`.
    """
    standings = build_standings(comparison, metric)
    height = HEIGHTS[len(standings) > 1]
    page = Chart(2 * MARGIN + 2 * (LEFT + WIDTH) + GAP)
    y = draw_heading(page, comparison) + 20
    for standing in standings:
        ends = [end for pair in standing.ends for end in pair]
        low, high = (y + height, y) if not standing.lower_is_better else (y, y + height)
        up = build_value_scale([*standing.values, *ends], low, high, pad=0.09)
        for number, (cost, words) in enumerate(COSTS.items()):
            left = MARGIN + LEFT + number * (LEFT + WIDTH + GAP)
            box = Rectangle(left, y, left + WIDTH, y + height)
            _draw_panel(page, box, comparison, standing, cost, words, up)
        y += height + 3.4 * page.pixels(LEADING * BODY)
    y = page.lines(MARGIN, y, wrap(_write_note(comparison), page.points(page.width - 2 * MARGIN), SMALL), SMALL, MUTED)
    return page.finish(y + MARGIN * 0.6)


def _write_note(comparison: Comparison) -> str:
    note = "Line and bold names: the Pareto front; nothing else is both cheaper and better. Squares are controls."
    devices = sorted(set(comparison.joined.explainers["device"]) - {""})
    if len(devices) > 1:
        return f"{note} Seconds were measured on {' and '.join(devices)}: do not compare them across devices."
    return f"{note} Seconds were measured on {devices[0]}." if devices else note


def _draw_panel(
    page: Chart, box: Rectangle, comparison: Comparison, standing: Standing, cost: str, words: str, up: Scale
) -> None:
    costs = [float(comparison.leaderboard[cost][name]) for name in standing.names]
    along = build_cost_scale(costs, box.left, box.right)
    _draw_axes(page, box, along.ticks(8), up, words, standing.words)
    finite = [number for number, value in enumerate(costs) if math.isfinite(value)]
    points = [(along(costs[number]), up(standing.values[number])) for number in finite]
    losses = standing.values if standing.lower_is_better else [-value for value in standing.values]
    front = [finite.index(number) for number in find_pareto_front(costs, losses)]
    path = _build_stairs([points[position] for position in front])
    draw_line(page, [x for x, _ in path], [y for _, y in path], VERMILION, 1.6)
    avoid = [Rectangle(min(a, c) - 3, min(b, d) - 3, max(a, c) + 3, max(b, d) + 3) for (a, b), (c, d) in pairwise(path)]
    for position, number in enumerate(finite):
        low, high = standing.ends[number]
        if math.isfinite(low):
            x = points[position][0]
            draw_line(page, [x, x], [up(low), up(high)], MUTED, 1.2)
            avoid.append(Rectangle(x - 3, min(up(low), up(high)), x + 3, max(up(low), up(high))))
        control = bool(comparison.leaderboard["control"][standing.names[number]])
        draw_mark(page, *points[position], "control" if control else "best" if position in front else "")
    labels = [shorten(standing.names[number], 200, BODY) for number in finite]
    sizes = [(page.pixels(measure_width(label, BODY)), page.pixels(BODY)) for label in labels]
    inner = Rectangle(box.left + 4, box.top + 4, box.right - 4, box.bottom - 4)
    boxes = place_labels(points, sizes, inner, avoid)
    for position, (label, place) in enumerate(zip(labels, boxes, strict=True)):
        _draw_label(page, label, place, points[position], position in front)


def _draw_axes(page: Chart, box: Rectangle, ticks: list[tuple[float, str]], up: Scale, words: str, title: str) -> None:
    step = page.pixels(LEADING * SMALL)
    for x, label in ticks:
        draw_line(page, [x, x], [box.top, box.bottom], FRAME, 0.6, zorder=1)
        page.text(x, box.bottom + step, label, SMALL, MUTED, ha="center")
    for y, label in up.ticks(8):
        draw_line(page, [box.left, box.right], [y, y], FRAME, 0.6, zorder=1)
        page.text(box.left - 12, y + page.pixels(0.36 * SMALL), label, SMALL, MUTED, ha="right")
    draw_line(page, [box.left, box.left, box.right], [box.top, box.bottom, box.bottom], MUTED)
    page.text((box.left + box.right) / 2, box.bottom + 2.4 * step, words, BODY, INK, ha="center")
    page.text_upwards(box.left - 78, (box.top + box.bottom) / 2, title, BODY, INK)


def _build_stairs(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The front as stairs: what is reached at a cost holds until something better is reached."""
    path = points[:1]
    for before, after in pairwise(points):
        path += [(after[0], before[1]), after]
    return path


def _draw_label(page: Chart, label: str, box: Rectangle, point: tuple[float, float], front: bool) -> None:
    """The text in its box, and a thin line to the point where it stands apart."""
    if build_leader(box, point):
        nearest = (min(max(point[0], box.left), box.right), min(max(point[1], box.top), box.bottom))
        draw_line(page, [point[0], nearest[0]], [point[1], nearest[1]], MUTED, 0.7, zorder=1.5)
    page.text(box.left, box.bottom - page.pixels(0.14 * BODY), label, BODY, INK, weight="bold" if front else "normal")
