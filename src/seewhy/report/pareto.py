"""The figure pareto.png: how faithful explainers are for what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.figure import Figure

from seewhy.core.errors import UserError
from seewhy.plots.charts import (
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
from seewhy.plots.colormaps import FRAME, INK, MUTED
from seewhy.plots.label_placement import Rectangle, build_leader, place_labels
from seewhy.plots.text import LEADING, measure_width, shorten, wrap
from seewhy.report.comparison import Comparison
from seewhy.report.leaderboard import draw_heading


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


WIDTH, HEIGHT, GAP, LEFT = 1150, 860, 70, 110
COSTS = {"passes": "passes through the network per image (forward and backward)", "seconds": "seconds per image"}
RANK = "mean_rank"


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


def build_standing(comparison: Comparison, metric: str | None = None) -> Standing:
    """Build the vertical axis.

    Args:
        comparison: Of the explainers of one model.
        metric: Whose means it shows; None: the mean rank over the metrics that rank every explainer.

    Returns:
        The values with their intervals.

    Raises:
        UserError: If the metric was not measured or has no direction, or no metric ranks every explainer.
    """
    column = metric or RANK
    if column not in (RANK, *comparison.ranks):
        raise UserError(f"faithfulness={metric} is none of the metrics with a direction: {', '.join(comparison.ranks)}")
    board = comparison.leaderboard.dropna(subset=[column])
    if board.empty:
        raise UserError("no metric ranks every explainer, so there is no mean rank; set faithfulness=<metric>")
    names, values = [str(name) for name in board.index], [float(value) for value in board[column]]
    if metric is None:
        shared = sum(len(ranks.explainers) == len(comparison.leaderboard) for ranks in comparison.ranks.values())
        words = f"mean rank over {shared} metric{'s' if shared > 1 else ''} (1 is best)"
        return Standing(words, names, values, [(math.nan, math.nan)] * len(names), True)
    lower = comparison.joined.facts[metric].better == "lower"
    words = f"{metric.replace('_', ' ')} ({'lower' if lower else 'higher'} is better)"
    ends = [comparison.get_mean(name, metric)[1:] for name in names]
    return Standing(words, names, values, [(low, high) for low, high in ends], lower)


def draw_pareto(comparison: Comparison, metric: str | None = None) -> Figure:
    """Draw faithfulness (better is up) against passes and against seconds.

    The front joins what no other explainer beats in both.

    Args:
        comparison: Of the explainers of one model.
        metric: Whose means are drawn; None: the mean rank.

    Returns:
        The figure.

    Raises:
        UserError: As `build_standing`.
    """
    standing = build_standing(comparison, metric)
    page = Chart(2 * MARGIN + 2 * (LEFT + WIDTH) + GAP)
    y = draw_heading(page, comparison) + 20
    ends = [end for pair in standing.ends for end in pair]
    low, high = (y + HEIGHT, y) if not standing.lower_is_better else (y, y + HEIGHT)
    across = build_value_scale([*standing.values, *ends], low, high, pad=0.09)
    for number, (cost, words) in enumerate(COSTS.items()):
        left = MARGIN + LEFT + number * (LEFT + WIDTH + GAP)
        _draw_panel(page, left, y, comparison, standing, cost, words, across)
    bottom = y + HEIGHT + 3.4 * page.pixels(LEADING * BODY)
    bottom = page.lines(
        MARGIN, bottom, wrap(_write_note(comparison), page.points(page.width - 2 * MARGIN), SMALL), SMALL, MUTED
    )
    return page.finish(bottom + MARGIN * 0.6)


def _write_note(comparison: Comparison) -> str:
    note = "Line and bold names: the Pareto front; nothing else is both cheaper and better. Squares are controls."
    devices = sorted(set(comparison.joined.explainers["device"]) - {""})
    if len(devices) > 1:
        return f"{note} Seconds were measured on {' and '.join(devices)}: do not compare them across devices."
    return f"{note} Seconds were measured on {devices[0]}." if devices else note


def _draw_panel(
    page: Chart, left: float, top: float, comparison: Comparison, standing: Standing, cost: str, words: str, up: Scale
) -> None:
    costs = [float(comparison.leaderboard[cost][name]) for name in standing.names]
    along = build_cost_scale(costs, left, left + WIDTH)
    bottom = top + HEIGHT
    _draw_axes(page, left, top, along.ticks(8), up, words, standing.words)
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
    boxes = place_labels(points, sizes, Rectangle(left + 4, top + 4, left + WIDTH - 4, bottom - 4), avoid)
    for position, (label, box) in enumerate(zip(labels, boxes, strict=True)):
        _draw_label(page, label, box, points[position], position in front)


def _draw_axes(
    page: Chart, left: float, top: float, ticks: list[tuple[float, str]], up: Scale, words: str, title: str
) -> None:
    bottom, step = top + HEIGHT, page.pixels(LEADING * SMALL)
    for x, label in ticks:
        draw_line(page, [x, x], [top, bottom], FRAME, 0.6, zorder=1)
        page.text(x, bottom + step, label, SMALL, MUTED, ha="center")
    for y, label in up.ticks(8):
        draw_line(page, [left, left + WIDTH], [y, y], FRAME, 0.6, zorder=1)
        page.text(left - 12, y + page.pixels(0.36 * SMALL), label, SMALL, MUTED, ha="right")
    draw_line(page, [left, left, left + WIDTH], [top, bottom, bottom], MUTED)
    page.text(left + WIDTH / 2, bottom + 2.4 * step, words, BODY, INK, ha="center")
    page.text_upwards(left - 78, top + HEIGHT / 2, title, BODY, INK)


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
