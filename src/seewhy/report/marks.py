"""What each verdict looks like in a figure: told apart by shape and filling, not by colour alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from seewhy.chart import Chart
from seewhy.colours import INK, MUTED
from seewhy.page import LEADING, width_of
from seewhy.report.comparison import Comparison

BLUE, VERMILION = "#0072b2", "#d55e00"
SIZE = 7.5
TITLE, BODY, SMALL = 11.0, 8.5, 7.5
MARGIN = 50
STYLES: dict[str, dict[str, Any]] = {
    "best": {"marker": "D", "color": VERMILION, "markersize": 6.5},
    "yes": {"marker": "o", "color": BLUE},
    "no": {"marker": "o", "color": BLUE, "markerfacecolor": "white", "markeredgewidth": 1.4},
    "untested": {"marker": "^", "color": BLUE, "markerfacecolor": "white", "markeredgewidth": 1.4},
    "control": {"marker": "s", "color": MUTED, "markersize": 6},
    "": {"marker": "o", "color": BLUE},
}
WORDS = {
    "best": "best mean (where random is there, it is beaten)",
    "yes": "beats random",
    "no": "does not beat random",
    "untested": "too few images to compare with random",
    "control": "random itself",
    "": "mean",
}


def mark(page: Chart, x: float, y: float, kind: str) -> None:
    """The mark of one kind at a place."""
    style = {"markersize": SIZE, "linestyle": "none", "zorder": 4, **STYLES[kind]}
    page.axes.plot([x], [y], **style)


def line(
    page: Chart, xs: Iterable[float], ys: Iterable[float], colour: str = INK, width: float = 1.0, **style: Any
) -> None:
    """A line through places."""
    page.axes.plot(
        list(xs), list(ys), color=colour, linewidth=width, **{"zorder": 2, "solid_capstyle": "butt", **style}
    )


def kind_of(comparison: Comparison, explainer: str, metric: str) -> str:
    """The mark of one cell; an explainer that is both best and no better than random shows the latter."""
    verdict = comparison.beats(explainer, metric)
    best = explainer in comparison.best(metric)
    return "best" if best and verdict in ("yes", "") else verdict


def legend(page: Chart, y: float, kinds: Iterable[str]) -> float:
    """One line of marks with their words, broken where the page ends; the y below it."""
    x, step = float(MARGIN), page.pixels(LEADING * BODY)
    for kind in kinds:
        width = page.pixels(width_of(WORDS[kind], BODY)) + 60
        if x + width > page.width - MARGIN and x > MARGIN:
            x, y = float(MARGIN), y + step
        mark(page, x + 10, y + step / 2, kind)
        page.text(x + 28, y + 0.75 * step, WORDS[kind], BODY)
        x += width
    return y + step
