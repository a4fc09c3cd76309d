"""The lines of time and memory as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarking.scaling import Line
from seewhy.plots.heatmaps import INK, MUTED


def draw(lines: Sequence[Line], path: Path, title: str) -> None:
    """Seconds above, peak memory below, one column for each axis."""
    figure = Figure(figsize=(2.6 * len(lines), 4.6), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(lines), squeeze=False)
    for column, line in enumerate(lines):
        above, below = axes[0, column], axes[1, column]
        above.plot(line.amounts, line.seconds, "o-", color=INK, markersize=4, linewidth=1)
        below.plot(line.amounts, line.megabytes, "o-", color=INK, markersize=4, linewidth=1)
        above.set_ylim(0, 1.15 * max(line.seconds))
        below.set_ylim(0, 1.3 * max(line.megabytes))
        what = f"R² = {line.straightness:.3f}" if line.axis != "probe batch size" else "same passes"
        above.set_title(f"{line.method}\n{what}", fontsize=8)
        below.set_title(f"largest / smallest = {line.memory_ratio:.2f}", fontsize=8)
        below.set_xlabel(line.axis, fontsize=8)
        for axis in (above, below):
            axis.tick_params(labelsize=7, colors=MUTED)
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_xlim(0, 1.05 * max(line.amounts))
    axes[0, 0].set_ylabel("seconds", fontsize=8)
    axes[1, 0].set_ylabel("peak memory, MB", fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path)
