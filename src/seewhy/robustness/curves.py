"""Accuracy, confidence and stability over the levels of each corruption."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from seewhy.colours import FRAME, INK, MUTED
from seewhy.robustness.summary import CLEAN, by_level

LINES = ("#0b6cc4", "#d98200", "#7a3ea8", "#00856f", "#b03400", "#5c5c5c", "#c43d8b")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLUMNS = 5


def curves(summary: pd.DataFrame, quantities: dict[str, str], title: str) -> Figure:
    """One panel per corruption; `quantities` maps the columns that are drawn to their names in the legend.

    Points are means over the images, bands their 95 % intervals; level 0 is the clean image. The axis goes from 0 to 1,
    and further where the numbers do.
    """
    table = by_level(summary[summary.quantity.isin(list(quantities))])
    names = [name for name in table.corruption.unique() if name != CLEAN]
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    width = max(6.4, 2.5 * columns + 0.6)
    height = 2.1 * rows + 1.35
    figure = Figure((width, height), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    ends = table[["value", "low", "high"]]
    lowest, highest = min(0.0, float(ends.min().min())), max(1.0, float(ends.max().max()))
    room = 0.04 * (highest - lowest)
    levels = int(table.level.max())
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(names):
            axes.set_visible(False)
            continue
        _panel(axes, table, names[place], quantities)
        axes.set(ylim=(lowest - room, highest + room), xlim=(-0.2, levels + 0.2), xticks=range(levels + 1))
        axes.tick_params(labelsize=7, colors=MUTED, labelbottom=place + columns >= len(names))
    figure.suptitle(title, x=0.02, ha="left", fontsize=9, fontweight="bold", color=INK, parse_math=False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(0.01, 0.0), ncols=min(4, len(labels)), fontsize=7
    )
    legend.get_frame().set_linewidth(0)
    lines = -(-len(labels) // 4)
    bottom = (0.3 + 0.17 * lines) / height
    figure.supxlabel("level (0: clean)", y=bottom - 0.17 / height, fontsize=7.5, color=MUTED)
    figure.subplots_adjust(0.42 / width, bottom + 0.22 / height, 1 - 0.12 / width, 1 - 0.55 / height, 0.08, 0.22)
    return figure


def _panel(axes: Axes, table: pd.DataFrame, corruption: str, quantities: dict[str, str]) -> None:
    for number, (quantity, label) in enumerate(quantities.items()):
        chosen = table[table.corruption.isin([CLEAN, corruption]) & (table.quantity == quantity)]
        ordered = chosen.sort_values("level")
        colour, marker = LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
        axes.fill_between(ordered.level, ordered.low, ordered.high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(ordered.level, ordered.value, color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=label)
    axes.set_title(corruption.replace("_", " "), fontsize=8, loc="left", color=INK, pad=3)
    axes.grid(color=FRAME, linewidth=0.4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FRAME)


def headlines(columns: Sequence[str], explainers: Sequence[str]) -> dict[str, str]:
    """The quantities of the terminal's table: accuracy, confidence and one number about each explainer's maps."""
    wanted = {"accuracy": "accuracy", "clean_probability": "confidence"}
    wanted |= {f"{name}_spearman": f"{name} rank corr." for name in explainers}
    return {column: words for column, words in wanted.items() if column in set(columns)}


def drawn(columns: Sequence[str], explainers: Sequence[str]) -> dict[str, str]:
    """The quantities of the curves that there are, with their names in the legend."""
    wanted = {"accuracy": "accuracy", "clean_probability": "confidence: probability of the original's class"}
    for name in explainers:
        wanted[f"{name}_spearman"] = f"{name.replace('_', ' ')}: rank correlation"
        wanted[f"{name}_top10"] = f"{name.replace('_', ' ')}: top 10 % in common"
        wanted[f"{name}_ssim"] = f"{name.replace('_', ' ')}: SSIM"
    return {column: words for column, words in wanted.items() if column in set(columns)}


def measured(columns: Sequence[str], explainers: Sequence[str], metrics: Sequence[str]) -> dict[str, dict[str, str]]:
    """For each metric that was taken on the corrupted images: the explainers' columns and their names in the legend."""
    found = {}
    for metric in metrics:
        lines = {f"{name}_{metric}": f"{name.replace('_', ' ')}: {metric}" for name in explainers}
        found[metric] = {column: words for column, words in lines.items() if column in set(columns)}
    return {metric: lines for metric, lines in found.items() if lines}
