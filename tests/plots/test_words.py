"""Words stand where matplotlib's own stand, and are as wide as they were measured."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from seewhy.plots.canvas import Drawing, Page, Words
from seewhy.plots.text import FAMILY, RESOLUTIONS, clean_text, find_font_file, measure_width

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
    return 255 - drawing.paint()[..., 0].astype(int)


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
    "text", ["iiiillll", "attribution of each pixel", "T V A W . Y", "p=0.87 (1 = 0.417), n0144_2431"]
)
@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_a_line_is_not_wider_than_it_was_measured(text: str, bold: bool, resolution: int) -> None:
    for size in (7, 7.5, 8, 8.5, 10, 11):
        page = Drawing(1000, 100, resolution, (Words(50, 60, text, size, "#000000", bold=bold),)).paint()
        width = np.ptp(np.nonzero(page[..., 0] < 200)[1])
        assert 0.7 < width / (measure_width(text, size, bold) * resolution / 72) < 1.01, size


def test_every_character_of_a_clean_line_is_in_both_fonts() -> None:
    assert clean_text("größe ✓ ✗ ⚠ · … − →") == "größe ✓ ✗ ⚠ · … − →"
    assert all(find_font_file(bold).is_file() for bold in (False, True))


def test_words_have_their_colour_over_any_ground() -> None:
    page = Page(400)
    page.box(0, 0, 400, 100, "#ffff00")
    page.text(20, 60, "x" * 12, 8, "#ff0000")
    picture = page.finish(100).paint()
    assert (picture[..., 0] == 255).all()
    assert (picture[..., 2] == 0).all()
    assert picture[..., 1].min() == 0


@pytest.mark.parametrize("place", [(-40, 50), (290, 50), (150, 3), (150, 104), (-900, 50), (150, 900)])
def test_words_that_leave_the_page_are_cut_off(place: tuple[int, int]) -> None:
    whole = Drawing(1000, 400, 100, (Words(400 + place[0], 150 + place[1], "heat map", 8, "#000000"),)).paint()
    part = Drawing(300, 100, 100, (Words(*place, "heat map", 8, "#000000"),)).paint()
    assert np.array_equal(part, whole[150:250, 400:700])
