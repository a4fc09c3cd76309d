"""Figures of a robustness run: curves over the levels of each corruption, and a heat table of corruption x level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from seewhy.analyses.robustness.summary import CLEAN, read_means, select_levels
from seewhy.plots.canvas import Drawing, Page
from seewhy.plots.heatmaps import FRAME, GROUND, INK, MUTED, convert_oklab_to_srgb
from seewhy.plots.text import LEADING, format_probability, shorten, wrap

LINES = ("#0b6cc4", "#d98200", "#7a3ea8", "#00856f", "#b03400", "#5c5c5c", "#c43d8b")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLUMNS = 5


def draw_curves(summary: pd.DataFrame, quantities: dict[str, str], title: str) -> Figure:
    """One panel per corruption; `quantities` maps the columns that are drawn to their names in the legend.

    Points are means over the images, bands their 95 % intervals; level 0 is the clean image. The axis goes from 0 to 1,
    and further where the numbers do.
    """
    table = select_levels(summary[summary.quantity.isin(list(quantities))])
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
    for position, axes in enumerate(grid.flat):
        if position >= len(names):
            axes.set_visible(False)
            continue
        _panel(axes, table, names[position], quantities)
        axes.set(ylim=(lowest - room, highest + room), xlim=(-0.2, levels + 0.2), xticks=range(levels + 1))
        axes.tick_params(labelsize=7, colors=MUTED, labelbottom=position + columns >= len(names))
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
        points = table[table.corruption.isin([CLEAN, corruption]) & (table.quantity == quantity)]
        ordered = points.sort_values("level")
        colour, marker = LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
        axes.fill_between(ordered.level, ordered.low, ordered.high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(ordered.level, ordered.value, color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=label)
    axes.set_title(corruption.replace("_", " "), fontsize=8, loc="left", color=INK, pad=3)
    axes.grid(color=FRAME, linewidth=0.4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FRAME)


def select_headline_quantities(columns: Sequence[str], explainers: Sequence[str]) -> dict[str, str]:
    """Select the quantities of the terminal's table: accuracy, confidence and one number about each explainer's maps.

    Args:
        columns: Quantities that were measured.
        explainers: Names of the methods.

    Returns:
        Heading of each selected quantity, by its column.
    """
    names = {"accuracy": "accuracy", "clean_probability": "confidence"}
    names |= {f"{name}_spearman": f"{name} rank corr." for name in explainers}
    return {column: words for column, words in names.items() if column in set(columns)}


def select_curve_quantities(columns: Sequence[str], explainers: Sequence[str]) -> dict[str, str]:
    """Select the quantities that are drawn over the levels.

    Args:
        columns: Quantities that were measured.
        explainers: Names of the methods.

    Returns:
        Legend entry of each selected quantity, by its column.
    """
    names = {"accuracy": "accuracy", "clean_probability": "confidence: probability of the originally predicted class"}
    for name in explainers:
        names[f"{name}_spearman"] = f"{name.replace('_', ' ')}: rank correlation"
        names[f"{name}_top10"] = f"{name.replace('_', ' ')}: top-10 % overlap"
        names[f"{name}_ssim"] = f"{name.replace('_', ' ')}: SSIM"
    return {column: words for column, words in names.items() if column in set(columns)}


def select_metric_quantities(
    columns: Sequence[str], explainers: Sequence[str], metrics: Sequence[str]
) -> dict[str, dict[str, str]]:
    """For each metric that was taken on the corrupted images: the explainers' columns and their names in the legend."""
    by_metric = {}
    for metric in metrics:
        lines = {f"{name}_{metric}": f"{name.replace('_', ' ')}: {metric}" for name in explainers}
        by_metric[metric] = {column: words for column, words in lines.items() if column in set(columns)}
    return {metric: lines for metric, lines in by_metric.items() if lines}


RESOLUTION = 110
TITLE, HEADER, BODY, NOTE = 10.0, 8.5, 8.0, 7.5
MARGIN, GAP, CELL, ROW, NAMES = 20, 26, 46, 22, 130


def draw_heat_table(summary: pd.DataFrame, quantities: dict[str, str], title: str) -> Drawing:
    """One block per quantity, one row per corruption, one column per level; darker is lower.

    Colours run from 0 to 1; a number below 0 has the colour of 0.
    """
    values = read_means(summary)
    names = list(dict.fromkeys(corruption for corruption, _, _ in values if corruption != CLEAN))
    levels = sorted({level for _, level, _ in values})
    per_row = min(3, len(quantities))
    block_width, block_height = len(levels) * CELL, (len(names) + 1) * ROW
    page = Page(2 * MARGIN + NAMES + per_row * (block_width + GAP) - GAP, RESOLUTION)
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN / 2, wrap(title, room, TITLE, True), TITLE, weight="bold") + 6
    heading = 2 * page.pixels(LEADING * HEADER)
    for number, (quantity, words) in enumerate(quantities.items()):
        row, column = divmod(number, per_row)
        x, top = MARGIN + NAMES + column * (block_width + GAP), y + row * (heading + block_height + GAP)
        lines = wrap(words, page.points(block_width), HEADER, True, most=2)
        page.lines(x, top + heading - len(lines) * heading / 2, lines, HEADER, weight="bold")
        if column == 0:
            _names(page, top + heading, names)
        _block(page, x, top + heading, quantity, values, names, levels)
    y += -(-len(quantities) // per_row) * (heading + block_height + GAP)
    note = (
        "means over the images; columns are levels, 0 is the clean image; the intervals are in robustness_summary.csv"
    )
    y = page.lines(MARGIN, y - GAP / 2, wrap(note, room, NOTE), NOTE, MUTED)
    return page.finish(y + MARGIN / 2)


def _names(page: Page, top: float, names: list[str]) -> None:
    for number, name in enumerate(names, 1):
        words = shorten(name.replace("_", " "), page.points(NAMES - 8), BODY)
        page.text(MARGIN, top + (number + 0.68) * ROW, words, BODY)


def _block(
    page: Page,
    x: float,
    top: float,
    quantity: str,
    values: dict[tuple[str, int, str], float],
    names: list[str],
    levels: list[int],
) -> None:
    for column, level in enumerate(levels):
        page.text(x + (column + 0.5) * CELL, top + 0.68 * ROW, str(level), BODY, MUTED, ha="center")
        for number, name in enumerate(names, 1):
            value = values.get((name if level else CLEAN, level, quantity))
            left, y = x + column * CELL, top + number * ROW
            page.box(left, y, CELL - 1, ROW - 1, GROUND if value is None else shade(value))
            if value is not None:
                ink = INK if value > 0.5 else "#ffffff"
                words = format_probability(value).replace("-", "−")
                page.text(left + CELL / 2, y + 0.68 * ROW, words, BODY, ink, ha="center")
    page.box(x, top + ROW - 1, len(levels) * CELL - 1, 1, FRAME)


def shade(value: float) -> str:
    """From dark blue (0) to near-white (1), in equal steps of lightness."""
    share = float(np.clip(value, 0, 1))
    dark, light = np.array([0.30, -0.02, -0.11]), np.array([0.97, 0.0, 0.0])
    red, green, blue = np.rint(convert_oklab_to_srgb(dark + share * (light - dark)) * 255).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
