"""The figure of `measure_curves`: how much of a class its top experts alone recognise."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from seewhy.explainers.influence.experts import CurvePoint, average_curve
from seewhy.plots.colormaps import FRAME, MUTED

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
