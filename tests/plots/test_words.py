"""Words stand where matplotlib's own stand, and a line put together from its words is the line itself."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg, get_hinting_flag
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.text import Text

from seewhy.plots.canvas import FAMILY, Drawing, Page, Words, find_font_file

TEXTS = ["heat map", "gypj", "^^", "__", "Å", "target: tabby (predicted) p=0.87"]


def theirs(text: str, size: float, **style: object) -> np.ndarray:
    """Darkness [rows, columns] of one line of matplotlib on a white page of 100 by 300 pixels."""
    figure = Figure(figsize=(3, 1), dpi=100, facecolor="white")
    font = FontProperties(family=FAMILY, size=size, weight=style.pop("weight", "normal"))
    place = {"va": "baseline", "transform": None, **style}
    figure.add_artist(Text(150, 50, text, fontproperties=font, color="black", **place))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return 255 - np.asarray(canvas.buffer_rgba())[..., 0].astype(int)


def ours(text: str, size: float, **style: object) -> np.ndarray:
    """The same of a drawing."""
    drawing = Drawing(300, 100, 100, (Words(150, 50, text, size, "#000000", **style),))
    return 255 - drawing.painted()[..., 0].astype(int)


def edges(ink: np.ndarray) -> np.ndarray:
    """First and last row and column with at least a fifth of full ink."""
    rows, columns = np.nonzero(ink > 50)
    return np.array([rows.min(), rows.max(), columns.min(), columns.max()])


@pytest.mark.parametrize("text", TEXTS)
def test_words_stand_where_those_of_matplotlib_stand(text: str) -> None:
    for place, bold, size in product(("left", "center", "right"), (False, True), (5, 8.5)):
        one, other = (
            ours(text, size, ha=place, bold=bold),
            theirs(text, size, ha=place, weight=600 if bold else "normal"),
        )
        assert np.abs(edges(one) - edges(other)).max() <= 2, (place, bold, size)
        assert one.sum() == pytest.approx(other.sum(), rel=0.15)


@pytest.mark.parametrize("text", ["scale", "share of scale (1 = 0.4)", "aaa"])
def test_words_that_read_upwards_stand_where_those_of_matplotlib_stand(text: str) -> None:
    one = ours(text, 5, upwards=True)
    other = theirs(text, 5, rotation=90, va="center", ha="right")
    assert np.abs(edges(one) - edges(other)).max() <= 1
    assert one.sum() == pytest.approx(other.sum(), rel=0.15)


@pytest.mark.parametrize(
    "text",
    ["heat map", "attribution of each pixel", "T V A W . Y", "office ﬂat  ·  x", "p=0.87 (1 = 0.417), n0144_2431"],
)
@pytest.mark.parametrize("bold", [False, True])
def test_a_line_put_together_from_its_words_is_the_line(text: str, bold: bool) -> None:
    font = get_font(find_font_file(bold))
    font.set_size(8.5 * 200 / 72, 72)
    font.set_text(text, 0.0, flags=get_hinting_flag())
    font.draw_glyphs_to_bitmap(antialiased=True)
    whole = np.array(font.get_image()).astype(int)
    _, _, made = Words(0, 0, text, 8.5, "#000000", bold=bold).placed(200)
    assert np.abs(np.subtract(made.shape, whole.shape)).max() <= 1
    columns = min(made.shape[1], whole.shape[1])
    inked, known = (np.cumsum(mask.astype(int).sum(0))[:columns] for mask in (made, whole))
    assert np.abs(inked - known).max() < 0.05 * whole.sum()


def test_words_have_their_colour_over_any_ground_and_grow_with_the_resolution() -> None:
    page = Page(400)
    page.box(0, 0, 400, 100, "#ffff00")
    page.text(20, 60, "x" * 12, 8, "#ff0000")
    drawing = page.finish(100)
    small, large = (drawing.painted(resolution) for resolution in (None, 400))
    assert large.shape == (200, 800, 3)
    assert (small[..., 0] == 255).all()
    assert (small[..., 2] == 0).all()
    assert small[..., 1].min() == 0
    widths = [np.ptp(np.nonzero(picture[..., 1] < 128)[1]) for picture in (small, large)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=4)


@pytest.mark.parametrize("place", [(-40, 50), (290, 50), (150, 3), (150, 104), (-900, 50), (150, 900)])
def test_words_that_leave_the_page_are_cut_off(place: tuple[int, int]) -> None:
    whole = Drawing(1000, 400, 100, (Words(400 + place[0], 150 + place[1], "heat map", 8, "#000000"),)).painted()
    part = Drawing(300, 100, 100, (Words(*place, "heat map", 8, "#000000"),)).painted()
    assert np.array_equal(part, whole[150:250, 400:700])
