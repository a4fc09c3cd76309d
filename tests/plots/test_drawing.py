"""What is painted lies where it was put; a PNG file holds every pixel."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from seewhy.plots.canvas import Box, Drawing, Page, Picture, encode_figure, encode_png, open_figure
from seewhy.plots.charts import Chart

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)


def test_boxes_cover_what_came_before_and_end_at_the_page() -> None:
    drawing = Drawing(
        6, 4, 200, (Box(1, 1, 9, 2, "#0a141e"), Box(-3, -2, 5, 4, "#ff0000"), Box(2, 2.5, 1, 1, "#00ff00"))
    )
    expected = np.full((4, 6, 3), 255)
    expected[1:3, 1:] = (10, 20, 30)
    expected[:2, :2] = (255, 0, 0)
    expected[3, 2] = (0, 255, 0)
    assert np.array_equal(drawing.paint(), expected)


def test_a_thin_box_is_seen_wherever_it_lies() -> None:
    for y in np.arange(1, 6, 0.25):
        assert (Drawing(1, 9, 200, (Box(0, y, 1, 1, "#000000"),)).paint() == 0).all(axis=2).sum() == 1


def test_the_values_of_a_picture_are_blocks() -> None:
    values = PIXELS[:2, :3]
    enlarged = Drawing(9, 8, 200, (Picture(Box(2, 1, 6, 6, "#000000"), values),))
    assert np.array_equal(enlarged.paint()[1:7, 2:8], values.repeat(3, axis=0).repeat(2, axis=1))
    whole, part = PIXELS, PIXELS[5::10, 5::10][:3]
    reduced = Drawing(5, 3, 200, (Picture(Box(0, 0, 5, 3, "#000000"), whole[:30, :50]),))
    assert np.array_equal(reduced.paint(), part)


def test_colours_in_eight_bits_and_in_shares_are_the_same_picture() -> None:
    pages = Page(60), Page(60)
    for page, colours in zip(pages, (PIXELS, PIXELS.astype(np.float32) / 255), strict=True):
        page.picture(2, 2, 53, 37, colours)
    one, other = (page.finish(41).paint() for page in pages)
    assert np.array_equal(one, other)
    assert np.array_equal(one[2:39, 2:55], PIXELS)
    assert (one[1, 1:56] == 0xC4).all()


@pytest.mark.parametrize("shape", [(37, 53), (1, 1), (1, 300), (600, 700)])
def test_a_png_file_holds_every_pixel_with_its_channels_in_order(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).transpose(1, 2, 0)
    for colours in (pixels, planes, np.broadcast_to(np.array([250, 120, 5], np.uint8), pixels.shape)):
        with Image.open(io.BytesIO(encode_png(colours))) as read:
            assert read.mode == "RGB"
            assert np.array_equal(np.array(read), colours)
        with Image.open(io.BytesIO(encode_png(colours))) as read:
            read.verify()


def test_the_same_pixels_give_the_same_bytes_while_others_encode() -> None:
    pictures = [np.random.default_rng(seed).integers(0, 9 + seed, (90, 70, 3), dtype=np.uint8) for seed in range(40)]
    alone = [encode_png(pixels) for pixels in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(encode_png, pictures * 25))
    assert together == alone * 25


def test_a_drawing_and_a_chart_become_pictures_of_their_size() -> None:
    for layout in (Page(400), Chart(400)):
        layout.box(10, 20, 30, 40, "#ff0000")
        figure = layout.finish(100)
        made = np.array(open_figure(figure).convert("RGB"))
        assert made.shape == (100, 400, 3)
        assert (made[20:60, 10:40] == (255, 0, 0)).all()
        assert (made == 255).all(axis=2).sum() == 100 * 400 - 30 * 40
        assert np.array_equal(np.array(Image.open(io.BytesIO(encode_figure(figure)))), made)


def test_words_of_a_chart_in_a_vector_file_are_words() -> None:
    chart = Chart(400)
    chart.text(20, 60, "heat map", 8)
    content = io.BytesIO()
    chart.finish(100).savefig(content, format="svg")
    assert b"<image" not in content.getvalue()
