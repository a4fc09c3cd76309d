"""Kept words stand where matplotlib's own stand; a PNG file holds the pixels of its figure."""

import io
from itertools import product

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from PIL import Image

from seewhy.page import Page
from seewhy.png import encoded, png
from seewhy.words import FAMILY, Words


def inked(kind: type[Text], text: str, size: float, **style: object) -> np.ndarray:
    """Darkness [rows, columns] of one line on a white page of 100 by 300 pixels."""
    figure = Figure(figsize=(3, 1), dpi=100, facecolor="white")
    font = FontProperties(family=FAMILY, size=size, weight=style.pop("weight", "normal"))
    place = {"va": "baseline", "transform": None, **style}
    figure.add_artist(kind(150, 50, text, fontproperties=font, color="black", **place))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return 255 - np.asarray(canvas.buffer_rgba())[..., 0].astype(int)


def edges(ink: np.ndarray) -> np.ndarray:
    """First and last row and column with at least a fifth of full ink."""
    rows, columns = np.nonzero(ink > 50)
    return np.array([rows.min(), rows.max(), columns.min(), columns.max()])


@pytest.mark.parametrize("text", ["heat map", "gypj", "^^", "__", "Å", "target: tabby (predicted) p=0.87"])
def test_words_stand_where_those_of_matplotlib_stand(text: str) -> None:
    for place, weight, size in product(("left", "center", "right"), ("normal", "bold"), (5, 8.5)):
        style = {"ha": place, "weight": weight}
        ours, theirs = inked(Words, text, size, **style), inked(Text, text, size, **style)
        assert np.abs(edges(ours) - edges(theirs)).max() <= 2, (place, weight, size)
        assert ours.sum() == pytest.approx(theirs.sum(), rel=0.15)


def test_turned_words_are_those_of_matplotlib() -> None:
    style = {"rotation": 90}
    assert np.array_equal(inked(Words, "scale", 8, **style), inked(Text, "scale", 8, **style))


def test_words_have_their_colour_and_grow_with_the_resolution() -> None:
    page = Page(400)
    page.text(20, 60, "x" * 12, 8, "#ff0000")
    figure = page.finish(100)
    small, large = (np.array(Image.open(io.BytesIO(png(figure, dpi)))) for dpi in (None, 400))
    assert large.shape == (200, 800, 3)
    assert (small[..., 0] == 255).all()
    widths = [np.ptp(np.nonzero(picture[..., 1] < 128)[1]) for picture in (small, large)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=4)


def test_words_in_a_vector_file_are_words() -> None:
    page = Page(400)
    page.text(20, 60, "heat map", 8)
    content = io.BytesIO()
    page.finish(100).savefig(content, format="svg")
    assert b"<image" not in content.getvalue()


def test_a_png_file_holds_every_pixel_and_its_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(encoded(pixels, 200))) as read:
        assert (read.mode, read.info["dpi"]) == ("RGB", (pytest.approx(200, abs=0.1), pytest.approx(200, abs=0.1)))
        assert np.array_equal(np.array(read), pixels)
    with Image.open(io.BytesIO(encoded(pixels, 200))) as read:
        read.verify()
