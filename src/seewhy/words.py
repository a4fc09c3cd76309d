"""A line of type whose pixels are kept: the same words are drawn on figure after figure."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import RendererAgg, get_hinting_flag
from matplotlib.colors import to_rgba
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from numpy.typing import NDArray

FAMILY = "DejaVu Sans"
"""The font of every figure; it comes with matplotlib."""
SHIFT = {"left": 0.0, "center": 0.5, "right": 1.0}


class Words(Text):
    """A literal line that stands on its baseline at whole pixels.

    Where it is turned or drawn into anything but pixels, matplotlib draws it.
    """

    def draw(self, renderer: RendererBase) -> None:
        """Lay the kept pixels over the picture in the colour of the words."""
        text = self.get_text()
        if not isinstance(renderer, RendererAgg) or self.get_rotation() or self.get_verticalalignment() != "baseline":
            super().draw(renderer)
        elif text and self.get_visible():
            size, bold = self.get_fontsize(), self.get_fontweight() == "bold"
            left, below, mask = _mask(text, float(size) * renderer.dpi / 72, bold)
            x, y = self.get_transform().transform(self.get_position())
            place = round(x - SHIFT[str(self.get_horizontalalignment())] * mask.shape[1]) + left, round(y) + below
            ink = np.empty((*mask.shape, 4), np.uint8)
            ink[..., :3] = np.rint(np.multiply(to_rgba(str(self.get_color()))[:3], 255))
            ink[..., 3] = mask
            renderer.draw_image(renderer.new_gc(), *place, ink)


def file_of(bold: bool) -> str:
    """The file of the font."""
    return str(findfont(FontProperties(family=FAMILY, weight="bold" if bold else "normal")))


@lru_cache(1024)
def _mask(text: str, pixels: float, bold: bool) -> tuple[int, int, NDArray[np.uint8]]:
    """(pixels from the start to the left edge, from the baseline to the lower edge, coverage with the lowest row first)."""
    font = get_font(file_of(bold))
    font.set_size(pixels, 72)
    font.set_text(text, 0.0, flags=get_hinting_flag())  # type: ignore[no-untyped-call]
    font.draw_glyphs_to_bitmap(antialiased=True)
    left, below = font.get_bitmap_offset()[0], -font.get_descent()
    mask = np.array(font.get_image())[::-1]
    return round(left / 64), round(below / 64) - 1, mask
