"""A page laid out in pixels: type, boxes and pictures, painted with Pillow and encoded as PNG with OpenCV."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from seewhy.plots.heatmaps import FRAME, GROUND, INK, MUTED, Colours, to_uint8
from seewhy.plots.text import LEADING, RESOLUTION, load_font, wrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANCHORS = {"left": "ls", "center": "ms", "right": "rs"}
"""Pillow's anchors of a line of type on its baseline."""


class Words(NamedTuple):
    """A clean line of type on a page.

    Attributes:
        x: Pixels from the left of what `ha` names.
        y: Pixels from the top of the baseline; of the middle of a line that reads upwards, which ends left of x.
        text: The line.
        size: Size of the type in points.
        colour: As #rrggbb.
        ha: What stands at x: left, center or right.
        bold: Whether the type is bold.
        upwards: Whether the line is turned by a quarter.
    """

    x: float
    y: float
    text: str
    size: float
    colour: str
    ha: str = "left"
    bold: bool = False
    upwards: bool = False

    def paint(self, page: Image.Image, resolution: float) -> None:
        """Lay the line over a page; what would lie outside is cut off."""
        font, draw = load_font(self.size * resolution / 72, self.bold), ImageDraw.Draw(page)
        x, y = round(self.x), round(self.y)
        if not self.upwards:
            draw.text((x, y), self.text, self.colour, font, ANCHORS[self.ha])
            return
        ascent, descent = font.getmetrics()
        level = Image.new("L", (max(1, ceil(font.getlength(self.text))), ascent + descent))
        ImageDraw.Draw(level).text((0, ascent), self.text, 255, font, "ls")
        mask = level.transpose(Image.Transpose.ROTATE_90)
        draw.bitmap((x - mask.width, round(self.y - mask.height / 2)), mask, self.colour)


class Box(NamedTuple):
    """A rectangle without an edge, measured in pixels of the page from its top left corner; `fill` is #rrggbb."""

    x: float
    y: float
    width: float
    height: float
    fill: str

    @property
    def edges(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in whole pixels; an edge in the middle of a pixel goes down."""
        sides = (self.x, self.y, self.x + self.width, self.y + self.height)
        left, top, right, bottom = (floor(side + 0.5) for side in sides)
        return left, top, right, bottom

    def paint(self, page: Image.Image, resolution: float) -> None:
        """Fill it."""
        page.paste(self.fill, self.edges)


class Picture(NamedTuple):
    """RGB `values` [rows, columns, 3] that fill a box: each value is a block, never interpolated."""

    box: Box
    values: NDArray[np.uint8]

    def paint(self, page: Image.Image, resolution: float) -> None:
        """Enlarge or reduce the picture to its box."""
        left, top, right, bottom = self.box.edges
        blocks = Image.fromarray(self.values).resize((right - left, bottom - top), Image.Resampling.NEAREST)
        page.paste(blocks, (left, top))


Item: TypeAlias = Box | Picture | Words


@dataclass(frozen=True)
class Drawing:
    """A white page and what lies on it.

    Args:
        width: In pixels.
        height: In pixels.
        resolution: Pixels an inch, which turns points of type into pixels.
        items: Later ones cover earlier ones.
    """

    width: int
    height: int
    resolution: float
    items: tuple[Item, ...]

    @property
    def words(self) -> list[Words]:
        """All lines of type."""
        return [item for item in self.items if isinstance(item, Words)]

    def paint(self) -> NDArray[np.uint8]:
        """Paint the page.

        Returns:
            RGB in 8 bits [height, width, 3].
        """
        page = Image.new("RGB", (self.width, self.height), "white")
        for item in self.items:
            item.paint(page, self.resolution)
        return np.asarray(page)


class Layout:
    """Boxes and lines of type, measured in pixels from the top left corner of a page.

    Args:
        width: Width of the page in pixels.
        resolution: Pixels an inch.
    """

    def __init__(self, width: int, resolution: int = RESOLUTION) -> None:
        self.width, self.resolution = width, resolution
        self.items: list[Item] = []

    def pixels(self, points: float) -> float:
        """Points of type in pixels of the page."""
        return points * self.resolution / 72

    def points(self, pixels: float) -> float:
        """Pixels of the page in points of type."""
        return pixels * 72 / self.resolution

    def text(
        self, x: float, y: float, text: str, size: float, colour: str = INK, ha: str = "left", weight: str = "normal"
    ) -> None:
        """One clean line whose left end (`ha` moves it) stands on the baseline y."""
        self.items.append(Words(x, y, text, size, colour, ha, weight == "bold"))

    def text_upwards(self, x: float, y: float, text: str, size: float, colour: str = INK) -> None:
        """One clean line that reads upwards, left of x, with its middle at y."""
        self.items.append(Words(x, y, text, size, colour, upwards=True))

    def lines(
        self,
        x: float,
        y: float,
        lines: Iterable[str],
        size: float,
        colour: str = INK,
        ha: str = "left",
        weight: str = "normal",
    ) -> float:
        """Lines of text from y downwards; the y below them."""
        step = self.pixels(LEADING * size)
        for line in lines:
            self.text(x, y + 0.75 * step, line, size, colour, ha, weight)
            y += step
        return y

    def box(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """A rectangle without an edge."""
        self.items.append(Box(x, y, width, height, fill))


class Page(Layout):
    """A white page with pictures; `finish` gives it its height."""

    def picture(self, x: float, y: float, width: float, height: float, colours: Colours) -> None:
        """Add a picture in a hairline frame.

        Args:
            x: Left edge in pixels.
            y: Top edge in pixels.
            width: In pixels.
            height: In pixels.
            colours: RGB [rows, columns, 3], in [0, 1] or in 8 bits.
        """
        self.box(x - 1, y - 1, width + 2, height + 2, FRAME)
        self.items.append(Picture(Box(x, y, width, height, FRAME), to_uint8(colours)))

    def blank(self, x: float, y: float, width: float, height: float, message: str, size: float) -> None:
        """Add a grey rectangle with a message instead of a picture.

        Args:
            x: Left edge in pixels.
            y: Top edge in pixels.
            width: In pixels.
            height: In pixels.
            message: Any text; it is wrapped.
            size: Size of the type in points.
        """
        self.box(x - 1, y - 1, width + 2, height + 2, FRAME)
        self.box(x, y, width, height, GROUND)
        step = self.pixels(LEADING * size)
        lines = wrap(message, self.points(width) * 0.9, size, most=max(1, int(height / step)))
        self.lines(x + width / 2, y + (height - step * len(lines)) / 2, lines, size, MUTED, ha="center")

    def finish(self, height: float) -> Drawing:
        """Give the page its height.

        Args:
            height: In pixels.

        Returns:
            The page and what lies on it.
        """
        return Drawing(self.width, round(height), self.resolution, tuple(self.items))


Drawn: TypeAlias = "Drawing | Figure"
"""What becomes a picture: a page of this module, or a chart of matplotlib."""


def encode_figure(figure: Drawn) -> bytes:
    """Encode a figure as PNG; the same figure gives the same bytes.

    Args:
        figure: A page or a chart.

    Returns:
        The content of the file.
    """
    return encode_png(_paint(figure))


def open_figure(figure: Drawn) -> Image.Image:
    """Turn a figure into a picture that notebooks show and that can be saved in any format.

    Args:
        figure: A page or a chart.

    Returns:
        An RGB picture.
    """
    return Image.fromarray(_paint(figure))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode RGB as PNG with OpenCV, which is two to three times as fast as Pillow.

    Neither more effort nor a filter makes figures enough smaller for the time that they take.

    Args:
        pixels: RGB in 8 bits [height, width, 3].

    Returns:
        The content of the file.
    """
    import cv2

    options = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)
    _, content = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    return content.tobytes()


def _paint(figure: Drawn) -> NDArray[np.uint8]:
    """RGB [height, width, 3] of a page or of a chart."""
    if isinstance(figure, Drawing):
        return figure.paint()
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])  # type: ignore[no-untyped-call]
