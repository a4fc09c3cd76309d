"""A page with lines and marks, which matplotlib draws."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from seewhy.plots.canvas import FAMILY, RESOLUTION, Box, Layout, Words


class Chart(Layout):
    """Boxes, words and, through `axes`, whatever matplotlib can plot in pixels of the page."""

    def __init__(self, width: int, resolution: int = RESOLUTION) -> None:
        super().__init__(width, resolution)
        self.figure = Figure(dpi=resolution, facecolor="white")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()

    def finish(self, height: float) -> Figure:
        """The figure, `height` pixels high."""
        for part in self.parts:
            if isinstance(part, Box):
                place, size = (part.x, part.y), (part.width, part.height)
                self.axes.add_artist(Rectangle(place, *size, facecolor=part.fill, edgecolor="none", linewidth=0))
            if isinstance(part, Words):
                self._type(part)
        rows = round(height)
        self.figure.set_size_inches(self.width / self.resolution, rows / self.resolution)
        self.axes.set(xlim=(0, self.width), ylim=(rows, 0))
        return self.figure

    def _type(self, words: Words) -> None:
        font = FontProperties(family=FAMILY, weight="bold" if words.bold else "normal", size=words.size)
        text = Text(
            words.x, words.y, words.text, color=words.colour, fontproperties=font, parse_math=False, usetex=False
        )
        text.set(rotation=90 * words.upwards, va="center" if words.upwards else "baseline")
        text.set(ha="right" if words.upwards else words.ha, transform=self.axes.transData)
        self.axes.add_artist(text)
