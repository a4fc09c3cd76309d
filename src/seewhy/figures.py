"""Explanation -> one figure that says what was explained, how, and what to be careful about."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font, LoadFlags
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from seewhy import views
from seewhy.colours import ALERT_EDGE, ALERT_GROUND, ALERT_INK, FRAME, GROUND, INK, MUTED, ColourMap, colour_map
from seewhy.explanation import Explanation

RESOLUTION = 200
"""Pixels an inch of a panel, at which a pixel of the image covers a whole number of pixels of the figure."""
LEADING = 1.4
"""Height of a line of text in multiples of its size."""
METHOD, BODY, SMALL = 11.0, 8.5, 7.5
MARGIN, GAP, BAR, BAR_SPACE = 44, 36, 30, 176
FAST = {"compress_level": 2}
MINUS = "\N{MINUS SIGN}"


@cache
def _font(bold: bool) -> FT2Font:
    return get_font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))


@cache
def _advance(character: str, bold: bool) -> float:
    font = _font(bold)
    font.set_size(10, 72)
    return font.load_char(ord(character), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 655360


@cache
def _known() -> frozenset[int]:
    return frozenset(_font(False).get_charmap()) & frozenset(_font(True).get_charmap())


def literal(text: str) -> str:
    """The text on one line: any white space is one space, a character that the font lacks is a replacement mark."""
    line = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(c if ord(c) in _known() and c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def width_of(text: str, size: float, bold: bool = False) -> float:
    """Width of a literal text in points; 3 % over the sum of the advances, for hinting."""
    return 1.03 * size * sum(_advance(character, bold) for character in text)


def _fitting(text: str, width: float, size: float, bold: bool) -> int:
    """How many characters from the start of a literal text fit in `width` points."""
    return int(sum(np.cumsum([width_of(character, size, bold) for character in text]) <= width))


def shorten(text: str, width: float, size: float, tail: str = "", bold: bool = False) -> str:
    """`text` and `tail` on one line of at most `width` points: an ellipsis takes the place of the end of `text`."""
    text = literal(text)
    if width_of(text + tail, size, bold) <= width:
        return text + tail
    return text[: _fitting(text, width - width_of("…" + tail, size, bold), size, bold)].rstrip() + "…" + tail


def wrap(text: str, width: float, size: float, bold: bool = False, most: int = 8) -> list[str]:
    """The text in lines of at most `width` points, broken between words or, in a longer word, anywhere."""
    lines: list[str] = []
    rest = literal(text)
    while width_of(rest, size, bold) > width and len(lines) < most - 1:
        fitting = max(1, _fitting(rest, width, size, bold))
        space = rest.rfind(" ", 1, fitting + 1)
        cut = space if space > 0 else fitting
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*lines, shorten(rest, width, size, bold=bold)] if rest else lines


class Picture(Artist):
    """RGB [rows, columns, 3] in [0, 1] in a rectangle (x, y, width, height): each value a block, never interpolated.

    The values are picked here because matplotlib's own resampling takes most of the time of a figure.
    """

    axes: Axes

    def __init__(self, axes: Axes, colours: NDArray[np.floating], place: tuple[float, float, float, float]) -> None:
        super().__init__()
        self.place, self.zorder = place, 2
        painted = np.rint(np.asarray(colours) * 255).astype(np.uint8)
        self.values = np.pad(painted, ((0, 0), (0, 0), (0, 1)), constant_values=255)
        axes.add_artist(self)

    def draw(self, renderer: RendererBase) -> None:
        """Paint the blocks, the first row at the top."""
        x, y, width, height = self.place
        (left, bottom), (right, top) = (
            self.axes.transData.transform([(x, y + height), (x + width, y)]).round().astype(int)
        )
        rows = (np.arange(top - bottom - 1, -1, -1) + 0.5) / (top - bottom) * self.values.shape[0]
        columns = (np.arange(right - left) + 0.5) / (right - left) * self.values.shape[1]
        blocks = self.values[rows.astype(int)[:, None], columns.astype(int)]
        renderer.draw_image(renderer.new_gc(), left, bottom, blocks)


class Page:
    """A white figure measured in pixels from its top left corner; `finish` gives it its height."""

    def __init__(self, width: int, resolution: int = RESOLUTION) -> None:
        self.width, self.resolution = width, resolution
        self.figure = Figure(dpi=resolution, facecolor="white")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()

    def pixels(self, points: float) -> float:
        """Points of type in pixels of the page."""
        return points * self.resolution / 72

    def points(self, pixels: float) -> float:
        """Pixels of the page in points of type."""
        return pixels * 72 / self.resolution

    def text(self, x: float, y: float, text: str, size: float, colour: str = INK, **style: Any) -> None:
        """One literal line whose left end (`ha` moves it) stands on the baseline y."""
        font = FontProperties(family="DejaVu Sans", weight=style.pop("weight", "normal"), size=size)
        options = {"va": "baseline", "color": colour, "parse_math": False, "usetex": False, **style}
        self.axes.text(x, y, text, fontproperties=font, **options)

    def lines(self, x: float, y: float, lines: Iterable[str], size: float, colour: str = INK, **style: Any) -> float:
        """Lines of text from y downwards; the y below them."""
        step = self.pixels(LEADING * size)
        for line in lines:
            self.text(x, y + 0.75 * step, line, size, colour, **style)
            y += step
        return y

    def picture(self, x: float, y: float, width: float, height: float, colours: NDArray[np.floating]) -> None:
        """An RGB array [rows, columns, 3] in [0, 1] in that rectangle, pixel by pixel, in a hairline frame."""
        self.box(x - 1, y - 1, width + 2, height + 2, FRAME)
        Picture(self.axes, colours, (x, y, width, height))

    def box(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """A rectangle without an edge."""
        self.axes.add_patch(Rectangle((x, y), width, height, facecolor=fill, edgecolor="none", linewidth=0))

    def blank(self, x: float, y: float, width: float, height: float, message: str, size: float) -> None:
        """A grey rectangle with a message in the place of a picture."""
        self.box(x - 1, y - 1, width + 2, height + 2, FRAME)
        self.box(x, y, width, height, GROUND)
        step = self.pixels(LEADING * size)
        lines = wrap(message, self.points(width) * 0.9, size, most=max(1, int(height / step)))
        self.lines(x + width / 2, y + (height - step * len(lines)) / 2, lines, size, MUTED, ha="center")

    def finish(self, height: float) -> Figure:
        """The figure, `height` pixels high."""
        rows = round(height)
        self.figure.set_size_inches(self.width / self.resolution, rows / self.resolution)
        self.axes.set(xlim=(0, self.width), ylim=(rows, 0))
        return self.figure


def panel(
    explanation: Explanation, colours: str = "default", outlier_percent: float = 2.0, strength: float = 0.7
) -> Figure:
    """Original, heat map, overlay and, for signed methods, the positive and the negative part, in one row.

    All pictures share the scale of `views.scale`; a map that is zero everywhere or not finite is named, not painted.
    """
    scale = views.scale(explanation.attribution, outlier_percent)
    cells = views.cells(explanation, scale, colours, strength)
    height, width = _cell_size(*explanation.image.shape[-2:])
    page = Page(2 * MARGIN + len(cells) * (width + GAP) - GAP + (BAR_SPACE if scale else 0))
    y = _header(page, explanation)
    y = _row(page, y, cells, height, width)
    if scale:
        _colour_bar(
            page, y - height, height, scale, colour_map(colours, "signed" if explanation.signed else "unsigned")
        )
    y = _caption(page, y + GAP / 2, explanation, scale, outlier_percent)
    return page.finish(_warnings(page, y, explanation.warnings) + MARGIN * 0.7)


def _cell_size(rows: int, columns: int) -> tuple[int, int]:
    """(height, width) of a cell in page pixels: the image enlarged by a whole number to about 448, at most 640."""
    longest = max(rows, columns)
    factor: float = max(round(448 / longest), -(-360 // longest))
    factor = min(factor, 640 / longest)
    return round(rows * factor), round(columns * factor)


def _header(page: Page, explanation: Explanation) -> float:
    target, width = explanation.target, page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(explanation.explainer, width, METHOD, True), METHOD, weight="bold")
    y = page.lines(MARGIN, y, wrap(explanation.parameters, width, BODY), BODY, MUTED)
    details = (
        f"target: {target.name} ({target.policy}) p={views.share(target.probability)}",
        f"classifier: {explanation.classifier}",
        f"image: {explanation.name}",
    )
    for line in joined(details, width, BODY):
        y = page.lines(MARGIN, y, wrap(line, width, BODY), BODY)
    return y + GAP / 2


def joined(parts: Iterable[str], width: float, size: float) -> list[str]:
    """The parts, as many on one line as fit in `width` points."""
    lines: list[str] = []
    for part in map(literal, parts):
        longer = f"{lines[-1]}  ·  {part}" if lines else part
        lines[-1:] = [longer] if width_of(longer, size) <= width else [*lines[-1:], part]
    return lines


def _row(page: Page, y: float, cells: list[views.Cell], height: int, width: int) -> float:
    room = page.points(width)
    titles = [[(line, ink) for text, ink in cell.titles for line in wrap(text, room, BODY)] for cell in cells]
    step = page.pixels(LEADING * BODY)
    top = round(y + step * max(map(len, titles)) + step / 3)
    for number, (cell, lines) in enumerate(zip(cells, titles, strict=True)):
        x, start = MARGIN + number * (width + GAP), top - step / 3 - step * len(lines)
        for line, ink in lines:
            start = page.lines(x, start, [line], BODY, ink)
        if cell.colours is not None:
            page.picture(x, top, width, height, cell.colours)
            continue
        page.blank(x, top, width, height, cell.message, BODY)
    return top + height


def _colour_bar(page: Page, top: float, height: int, scale: float, ramp: ColourMap) -> None:
    x = page.width - MARGIN - BAR_SPACE + GAP
    page.picture(x, top, BAR, height, ramp(np.linspace(1, ramp.lowest, height)[:, None]))
    for value in (1.0, 0.5, 0.0, -0.5, -1.0):
        if value >= ramp.lowest:
            y = top + height * (1 - value) / (1 - ramp.lowest)
            page.box(x + BAR, y - 0.5, 6, 1, MUTED)
            page.text(x + BAR + 12, y + page.pixels(0.36 * SMALL), f"{value:g}".replace("-", MINUS), SMALL, MUTED)
    label = f"share of scale (1 = {number(scale)})"
    if width_of(label, SMALL) > page.points(height):
        label = shorten(f"1 = {number(scale)}", page.points(height), SMALL)
    page.text(page.width - MARGIN, top + height / 2, label, SMALL, MUTED, rotation=90, va="center", ha="right")


def number(value: float) -> str:
    """Three significant digits with a true minus sign."""
    return f"{value:.3g}".replace("-", MINUS)


def _caption(page: Page, y: float, explanation: Explanation, scale: float, outlier_percent: float) -> float:
    sentences = []
    if scale:
        end = ("±" if explanation.signed else "") + number(scale)
        rule = f"which is where the top {outlier_percent:g} % of the attribution mass lies"
        sentences.append(f"colours saturate at {end}, {rule}")
    if "completeness_gap" in explanation.facts:
        sentences.append(f"completeness gap {number(100 * explanation.facts['completeness_gap'])} %")
    width = page.points(page.width - 2 * MARGIN)
    for line in joined(sentences, width, SMALL):
        y = page.lines(MARGIN, y, wrap(line, width, SMALL), SMALL, MUTED)
    return y


def _warnings(page: Page, y: float, warnings: Iterable[str]) -> float:
    """Each warning on a tinted strip with an edge and a sign."""
    indent = 60
    for warning in warnings:
        lines = wrap(warning, page.points(page.width - 2 * MARGIN - indent - 16), BODY)
        height = page.pixels(LEADING * BODY) * len(lines) + 16
        y += 12
        page.box(MARGIN, y, page.width - 2 * MARGIN, height, ALERT_GROUND)
        page.box(MARGIN, y, 8, height, ALERT_EDGE)
        page.lines(MARGIN + 22, y + 8, ["\N{WARNING SIGN}"], BODY, ALERT_INK)
        page.lines(MARGIN + indent, y + 8, lines, BODY, ALERT_INK)
        y += height
    return y


def png(figure: Figure, dpi: float | None = None) -> bytes:
    """The figure as PNG bytes, the same for the same figure; `dpi` is the figure's own unless given."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi or figure.dpi, metadata={"Software": None}, pil_kwargs=FAST)
    return content.getvalue()
