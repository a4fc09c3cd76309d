"""Means with their intervals, one row each: the plot of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seewhy.plots.heatmaps import FRAME, INK, MUTED
from seewhy.report.comparison import CONTROLS
from studies.found_runs import Mean

BLUE, VERMILION = "#0072b2", "#d55e00"


def interval_figure(panels: Mapping[str, Mapping[str, Mean]], logarithmic: Sequence[str] = ()) -> Figure:
    """Panels side by side by title, in each a row by label; the titles in `logarithmic` have such an axis."""
    rows = max(len(panel) for panel in panels.values())
    figure = Figure(figsize=(3.1 + 2.9 * len(panels), 0.7 + 0.33 * rows), dpi=120, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for place, (title, panel) in zip(axes, panels.items(), strict=True):
        _panel(
            place,
            title,
            panel,
            title in logarithmic,
            place is axes[0] or set(panel) != set(next(iter(panels.values()))),
        )
    return figure


def _panel(axes: Axes, title: str, panel: Mapping[str, Mean], logarithmic: bool, labelled: bool) -> None:
    places = range(len(panel))
    for place, (label, found) in zip(places, panel.items(), strict=True):
        colour = MUTED if label in CONTROLS else BLUE
        if math.isfinite(found.low):
            axes.plot([found.low, found.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([found.mean], [place], "s" if colour == MUTED else "o", color=colour, markersize=6)
    if logarithmic:
        axes.set_xscale("log")
    axes.set_yticks(list(places), list(panel) if labelled else [""] * len(panel), fontsize=9, color=INK)
    axes.set_ylim(len(panel) - 0.5, -0.5)
    axes.set_title(title, fontsize=9.5, color=INK, loc="left")
    axes.grid(axis="x", color=FRAME, linewidth=0.6)
    axes.tick_params(labelsize=8.5, colors=INK)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
