"""Curves of a run: mean perturbation curves with their intervals, and how much of a class its experts recognise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seewhy.core.target_choice import name_image
from seewhy.explainers.influence.experts import CurvePoint, average_curve
from seewhy.plots.charts import BLUE, BODY, MARGIN, SMALL, TITLE, Chart, Scale, draw_line
from seewhy.plots.heatmaps import FRAME, INK, MUTED
from seewhy.plots.text import LEADING, wrap
from seewhy.statistics.intervals import DIFFERENCE, SHARE, Bounds, compute_mean_intervals

PANEL, HEIGHT, GAP, COLUMNS = 420, 300, 80, 4
GRID = np.linspace(0, 1, 51)
NOTE = (
    " while pixels are hidden (deletion) or shown (insertion), the most relevant first unless the title says otherwise; "
    "after the stroke what replaces hidden pixels. Line: mean over the images that reach a share; band: its 95 % interval."
)


def draw_curves(table: pd.DataFrame, heading: str, seed: int = 0) -> Figure:
    """Draw one panel per perturbation curve.

    Args:
        table: curves.csv with the columns image, curve, share (0 to 1), logit and probability.
        heading: What was explained.
        seed: Of the bootstrap.

    Returns:
        The figure.
    """
    names = sorted(table["curve"].unique())
    columns = min(COLUMNS, len(names))
    page = Chart(max(1100, 2 * MARGIN + columns * (PANEL + GAP)))
    width = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(heading, width, TITLE, True), TITLE, weight="bold") + 10
    for start in range(0, len(names), columns):
        titles = [wrap(_write_name(name), page.points(PANEL + GAP / 2), BODY, True) for name in names[start:][:columns]]
        top = y + page.pixels(LEADING * BODY) * max(map(len, titles)) + 8
        for column, title in enumerate(titles):
            x = MARGIN + GAP / 2 + column * (PANEL + GAP)
            page.lines(x, y, title, BODY, weight="bold")
            _draw_panel(page, x, top, table[table["curve"] == names[start + column]], seed)
        y = top + HEIGHT + 3.4 * page.pixels(LEADING * SMALL)
    note = f"The target's {describe_quantity(table)}{NOTE}"
    y = page.lines(MARGIN, y, wrap(note, width, SMALL), SMALL, MUTED)
    return page.finish(y + MARGIN * 0.6)


def choose_quantity(table: pd.DataFrame) -> str:
    """Choose what is drawn of a curve.

    Args:
        table: Rows of curves.csv.

    Returns:
        `probability`, or `logit` where the network has no probabilities.
    """
    return "probability" if table["probability"].notna().any() else "logit"


def describe_quantity(table: pd.DataFrame) -> str:
    """Describe what is drawn of a curve.

    Args:
        table: Rows of curves.csv.

    Returns:
        `probability`, or `output value` where the network has no probabilities.
    """
    return "probability" if choose_quantity(table) == "probability" else "output value"


def compute_mean_curve(table: pd.DataFrame, seed: int = 0) -> tuple[NDArray[np.float64], ...]:
    """Average one curve over the images on a common grid, as far as at least one image reaches.

    Args:
        table: Rows of curves.csv of one curve.
        seed: Of the bootstrap.

    Returns:
        (shares, mean, low, high), each [shares]; the interval is NaN where there are too few images.
    """
    shares, samples = _sample_grid(table)
    intervals = compute_mean_intervals(samples, seed, bounds=find_curve_bounds(table))
    low, high = (np.array([getattr(interval, end) for interval in intervals]) for end in ("low", "high"))
    return shares, np.array([sample.mean() for sample in samples]), low, high


def name_share(curve: str) -> str:
    """Name the horizontal axis of a curve, such as `insertion/blurred`.

    Args:
        curve: Its name.

    Returns:
        What happens to the pixels, as a fraction of all.
    """
    return f"fraction of pixels {'inserted' if curve.startswith('insertion') else 'removed'}"


def _sample_grid(table: pd.DataFrame) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """(shares of the common grid that an image reaches, the values of the images that reach each)."""
    return _keep_reached(resample_curves(table, choose_quantity(table)))


def _keep_reached(stack: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    reached = np.isfinite(stack).any(0)
    return GRID[reached], [column[np.isfinite(column)] for column in stack.T[reached]]


def compute_difference_curve(
    table: pd.DataFrame, control: pd.DataFrame, seed: int = 0
) -> tuple[NDArray[np.float64], ...] | None:
    """Average the difference of one curve from that of a control on the same images.

    Args:
        table: Rows of curves.csv of one curve.
        control: Those of the control.
        seed: Of the bootstrap.

    Returns:
        (shares, mean, low, high), each [shares], of the curve less the control's, image by image; None without an image
        that both have.
    """
    quantity = choose_quantity(table)
    curves, others = _resample(table, quantity), _resample(control, quantity)
    shared = [image for image in curves if image in others]
    if not shared:
        return None
    shares, samples = _keep_reached(np.array([curves[image] - others[image] for image in shared]))
    bounds = None if find_curve_bounds(pd.concat([table, control])) is None else DIFFERENCE
    intervals = compute_mean_intervals(samples, seed, bounds=bounds)
    low, high = (np.array([getattr(interval, end) for interval in intervals]) for end in ("low", "high"))
    return shares, np.array([sample.mean() for sample in samples]), low, high


def find_curve_bounds(table: pd.DataFrame) -> Bounds | None:
    """Find the bounds of what is drawn of a curve.

    Args:
        table: Rows of curves.csv.

    Returns:
        0 and 1 of a probability; None of a contrast, which leaves them, and of outputs that are no probabilities.
    """
    values = table["probability"].dropna()
    return SHARE if len(values) and values.between(0, 1).all() else None


def resample_curves(table: pd.DataFrame, quantity: str) -> NDArray[np.float64]:
    """Interpolate the curve of each image at the shares of `GRID`; of several targets an image has their mean.

    Args:
        table: Rows of curves.csv of one curve.
        quantity: The column to interpolate.

    Returns:
        float64 [images, 51]; NaN beyond the shares that an image reaches.
    """
    return np.array(list(_resample(table, quantity).values()))


def _resample(table: pd.DataFrame, quantity: str) -> dict[str, NDArray[np.float64]]:
    curves: dict[str, list[NDArray[np.float64]]] = {}
    codes, names = pd.factorize(table["image"], sort=True)
    order = np.lexsort((table["share"], codes))
    shares, values = (table[column].to_numpy()[order] for column in ("share", quantity))
    ends = np.bincount(codes, minlength=len(names)).cumsum()
    for name, start, stop in zip(names, [0, *ends[:-1]], ends, strict=True):
        share, value = shares[start:stop], values[start:stop]
        inside = (share[0] <= GRID) & (share[-1] >= GRID)
        curves.setdefault(name_image(str(name)), []).append(np.where(inside, np.interp(GRID, share, value), np.nan))
    return {image: each[0] if len(each) == 1 else np.mean(each, axis=0) for image, each in curves.items()}


def _write_name(curve: str) -> str:
    change, _, baseline = curve.partition("/")
    return f"{change} / {baseline}".replace("_", " ")


def _draw_panel(page: Chart, x: float, top: float, table: pd.DataFrame, seed: int) -> None:
    shares, mean, low, high = compute_mean_curve(table, seed)
    ends = [0.0, 1.0]
    if find_curve_bounds(table) is None:  # of a contrast, or outputs that are no probabilities
        ends += [value for side in (mean, low, high) for value in side[np.isfinite(side)]]
    across, upwards = Scale(0, 1, x, x + PANEL), Scale(min(ends), max(ends), top + HEIGHT, top)
    step = page.pixels(LEADING * SMALL)
    for tick, label in across.ticks(6):
        draw_line(page, [tick, tick], [top, top + HEIGHT], FRAME, 0.6, zorder=1)
        page.text(tick, top + HEIGHT + step, label, SMALL, MUTED, ha="center")
    for tick, label in upwards.ticks(6):
        draw_line(page, [x, x + PANEL], [tick, tick], FRAME, 0.6, zorder=1)
        page.text(x - 8, tick + 0.3 * step, label, SMALL, MUTED, ha="right")
    page.text(
        x + PANEL / 2, top + HEIGHT + 2.1 * step, name_share(str(table["curve"].iloc[0])), SMALL, INK, ha="center"
    )
    xs = [across(float(share)) for share in shares]
    banded = np.isfinite(low)
    if banded.any():
        lower, upper = (np.array([upwards(float(value)) for value in side[banded]]) for side in (low, high))
        inside = np.array(xs)[banded]
        page.axes.fill_between(inside, lower, upper, color=BLUE, alpha=0.22, linewidth=0, zorder=2)
    draw_line(page, xs, [upwards(float(value)) for value in mean], BLUE, 1.6, zorder=3)


STYLES = {"experts": "#0072b2", "random": "#8a8a8a"}


def draw_expert_curve(curve: Sequence[CurvePoint], layer: str, images: int) -> Figure:
    """Draw mean recall (solid) and false alarms (dashed) over the classes against the units that are kept.

    Thin lines are the recalls of the single classes.

    Args:
        curve: Recall and false alarms of each class and number of units.
        layer: Name of the layer of the units.
        images: Number of images that were classified.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(8, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for target in {point.target for point in curve}:
        recalls = [point for point in curve if point.target == target and point.order == "experts"]
        axes.plot(
            [point.units for point in recalls],
            [point.recall for point in recalls],
            color=STYLES["experts"],
            alpha=0.2,
            lw=0.8,
        )
    for order, colour in STYLES.items():
        counts, recall, alarms = zip(*average_curve(curve, order), strict=True)
        words = "top experts" if order == "experts" else "random units"
        axes.plot(counts, recall, color=colour, lw=2, marker="o", ms=4, label=f"{words}: recall")
        axes.plot(counts, alarms, color=colour, lw=1.5, ls="--", label=f"{words}: false alarms")
    ticks = sorted({point.units for point in curve})
    ticks = [tick for tick in ticks if tick == ticks[-1] or tick * 1.3 < ticks[-1]]
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(
        ylim=(-0.02, 1.02), xlabel=f"units of {layer} that are kept, the others set to 0", ylabel="share of images"
    )
    classes = len({point.target for point in curve})
    axes.set_title(
        f"Class against the rest with only its top experts ({classes} classes, {images:,} images)", loc="left"
    )
    axes.grid(color=FRAME, lw=0.5)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelcolor=MUTED)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
