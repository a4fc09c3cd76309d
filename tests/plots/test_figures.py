"""Panels and sheets whose words are whole, apart and inside the page."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from figure_checks import NAMES, assert_legible, explanation, words
from seewhy.core.errors import UserError
from seewhy.core.types import Prediction
from seewhy.plots import grid, heatmaps
from seewhy.plots.canvas import encode_figure
from seewhy.plots.explanation import draw_panel
from seewhy.plots.grid import draw_grid
from seewhy.plots.heatmaps import build_colour_map
from seewhy.plots.text import clean_text, format_number, measure_width, shorten, wrap
from seewhy.report.explanations import ExplainedImage, Origin

FILE_NAME = "f_" * 50
PARAMETERS = ", ".join(f"parameter_{number}=value_{number}" for number in range(9))


def pixels(figure):
    return np.array(Image.open(io.BytesIO(encode_figure(figure))))


def has_block(picture, block):
    height, width = block.shape[:2]
    places = np.argwhere((picture == block[0, 0]).all(axis=2))
    return any(np.array_equal(picture[y : y + height, x : x + width], block) for y, x in places)


# measured text


def test_literal_is_one_line_that_the_font_can_show():
    assert clean_text(" a\n b\t$x_1^2$ 100 % ") == "a b $x_1^2$ 100 %"
    assert clean_text("größe łŵ") == "größe łŵ"
    assert clean_text("猫\udc80\x07") == "\ufffd\ufffd\ufffd"


def test_wrapping_keeps_every_word_and_the_width():
    text = "baseline=black, n_steps=50, " + "W" * 90 + " end"
    lines = wrap(text, 200, 8.5)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert max(measure_width(line, 8.5) for line in lines) <= 200
    assert wrap("", 200, 8.5) == []


def test_shortening_keeps_the_tail():
    assert shorten("tabby", 200, 8, " 0.87") == "tabby 0.87"
    short = shorten("tabby cat " * 20, 100, 8, " 0.87")
    assert short.startswith("tabby cat")
    assert short.endswith("… 0.87")
    assert 80 < measure_width(short, 8) <= 100


# panels


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("name", NAMES)
def test_no_words_of_a_panel_touch_or_leave_the_page(signed, size, name):
    warnings = ("completeness gap 12 % exceeds the 5 % tolerance", f"a $long$ warning about {name} " * 8)
    assert_legible(draw_panel(explanation(size, signed, name, FILE_NAME, PARAMETERS, warnings)))


@pytest.mark.slow
@given(st.text(max_size=60), st.text(max_size=100), st.text(max_size=200), st.lists(st.text(max_size=200), max_size=3))
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_text_is_legible(name, file, parameters, warnings):
    assert_legible(draw_panel(explanation(32, False, name, file, parameters, tuple(warnings))))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 300), (300, 64), (1, 1), (700, 900)])
def test_pictures_of_any_shape_leave_the_words_legible(shape):
    shown = explanation(image=torch.rand(3, *shape), attribution=torch.randn(*shape))
    assert_legible(draw_panel(shown))
    assert_legible(draw_grid([shown, explanation()]))


def test_a_panel_says_what_it_shows():
    shown = explanation(
        224,
        name="tabby cat",
        parameters="n_steps=50",
        facts={"completeness_gap": -0.2, "completeness_gap_relative": 0.0123},
        warnings=("take care",),
    )
    figure = draw_panel(shown, outlier_percent=3)
    text = " ".join(words(figure))
    scale = f"{heatmaps.compute_scale(shown.attribution, 3):.3g}"
    for expected in (
        "predicted: tabby cat 0.87",
        "✗ true: tabby cat",
        "integrated_gradients",
        "n_steps=50",
        "target: tabby cat (predicted) p=0.87",
        "classifier: mobilenetv3 (shipped: mobilenetv3.safetensors)",
        "image: image",
        "positive only",
        "negative only",
        f"normalised attribution (1 = {scale})",
        f"colour scale clipped at ±{scale}, so that 3 % of the attribution mass saturates",
        "completeness gap 1.23 % (−0.2 in logits)",
        "⚠ take care",
    ):
        assert expected in text, expected


@pytest.mark.slow
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    "shape", [(32, 32), (32, 96), (64, 64), (160, 192), (96, 128), (48, 400), (96, 400), (32, 400), (400, 96)]
)
@pytest.mark.parametrize("factor", [1.0, 1.234e-12])
def test_the_labels_of_colour_bars_are_never_cut(shape, signed, factor):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * factor
    shown = explanation(image=torch.rand(3, *shape), attribution=values if signed else values.abs(), signed=signed)
    figure = draw_panel(shown)
    assert_legible(figure)
    assert not any("…" in line or "per-pixel" in line for line in words(figure)), "a map may come from a coarse grid"
    text = " ".join(words(figure))
    scale = heatmaps.compute_scale(shown.attribution)
    assert f"normalised attribution (1 = {format_number(scale)})" in text
    assert "overlay, on black to white" in text


@pytest.mark.parametrize(("correct", "mark"), [(True, "✓ true: dog"), (False, "✗ true: dog"), (None, "true: dog")])
def test_right_and_wrong_are_told_by_a_sign(correct, mark):
    prediction = Prediction(0, "cat", 0.5, (), "dog", correct)
    assert mark in words(draw_panel(explanation(prediction=prediction)))


def test_unknown_class_and_unsigned_map_leave_no_empty_words():
    figure = draw_panel(explanation(signed=False, prediction=Prediction(0, "cat", 0.001, ())))
    text = words(figure)
    assert "predicted: cat 0.001" in text
    assert not any("true" in line or "only" in line or "±" in line for line in text)


@pytest.mark.parametrize(
    ("value", "message"), [(0.0, "the map is zero everywhere"), (float("nan"), "the map has 1 NaN value")]
)
def test_a_map_that_cannot_be_drawn_is_named(value, message):
    attribution = torch.zeros(32, 32)
    attribution[3, 4] = value
    shown = explanation(attribution=attribution)
    figure = draw_panel(shown)
    assert message in words(figure)
    assert not any("saturate" in line or "overlay" in line for line in words(figure))
    assert_legible(figure)
    assert has_block(pixels(figure), enlarged(heatmaps.to_rgb(shown.image)[:4, :4], 14))


def enlarged(colours, factor):
    return np.rint(colours * 255).astype(np.uint8).repeat(factor, 0).repeat(factor, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "factor"), [(32, 14), (224, 2)])
def test_pictures_are_crisp_and_upright(size, factor):
    shown = explanation(size)
    picture = pixels(draw_panel(shown))
    scale = heatmaps.compute_scale(shown.attribution)
    normalised = heatmaps.normalise(shown.attribution, scale, signed=True)
    ramp = build_colour_map("default", "signed")
    corner = np.s_[: size // 4, : size // 4]
    assert has_block(picture, enlarged(heatmaps.to_rgb(shown.image)[corner], factor))
    assert has_block(picture, enlarged(ramp(normalised)[corner], factor))
    seen = heatmaps.average_fine_map(normalised)
    assert has_block(picture, enlarged(heatmaps.blend_overlay(shown.image, seen, ramp)[corner], factor))
    against = heatmaps.normalise(heatmaps.clip_negative(shown.attribution), scale, signed=False)
    assert has_block(picture, enlarged(build_colour_map("default", "negative")(against)[corner], factor))


def test_a_map_without_negative_values_says_so():
    assert "no negative values" in words(draw_panel(explanation(attribution=torch.ones(32, 32))))


def test_same_explanation_same_bytes_and_no_software_stamp():
    first, second = (encode_figure(draw_panel(explanation(224))) for _ in range(2))
    assert first == second
    assert b"Software" not in first


def test_unknown_colours_are_refused():
    with pytest.raises(UserError, match=r"callbacks\.figures\.colours"):
        draw_panel(explanation(), colours="jet")


# sheets


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 7])
def test_no_words_of_a_sheet_touch_or_leave_the_page(size, name, count):
    broken = explanation(size, name=name, attribution=torch.zeros(size, size), warnings=("zero",))
    assert_legible(draw_grid([broken, *(explanation(size, seed % 2 == 0, name, seed=seed) for seed in range(count))]))


def test_a_sheet_says_how_much_of_the_run_it_shows():
    many = [explanation(seed=seed) for seed in range(5)]
    assert words(draw_grid(many))[0].endswith("·  integrated_gradients  ·  5 images")
    assert words(draw_grid(many, maximum=3))[0].endswith("first 3 of 5 images")
    assert words(draw_grid(many, total=5000))[0].endswith("first 5 of 5,000 images")


def test_cells_of_a_sheet_are_enlarged_by_a_whole_number():
    shown = explanation(name="tabby")
    figure = draw_grid([shown, explanation(seed=2)], columns=2)
    assert "✗ tabby 0.87" in words(figure)
    assert "true: tabby" in words(figure)
    assert has_block(pixels(figure), enlarged(heatmaps.to_rgb(shown.image), 3))
    assert has_block(pixels(draw_grid([explanation(224)])), enlarged(heatmaps.to_rgb(explanation(224).image), 1))


def test_pictures_of_very_many_images_are_averaged_down(monkeypatch):
    cells = [explanation(60, seed=seed) for seed in range(4)]
    whole = heatmaps.to_rgb(cells[3].image)
    monkeypatch.setattr(grid, "SHEET", 2 * 4 * 41**2)
    assert has_block(pixels(draw_grid(cells)), enlarged(whole, 2)), "60 / 41 is nearer to 1 than to 2"
    monkeypatch.setattr(grid, "SHEET", 2 * 4 * 39**2)
    averaged = whole.reshape(30, 2, 30, 2, 3).mean(axis=(1, 3))
    assert has_block(pixels(draw_grid(cells)), enlarged(averaged, 1))


def test_number_of_columns_is_kept():
    cells = [explanation(seed=seed) for seed in range(4)]
    tall, wide = (pixels(draw_grid(cells, columns=columns)).shape for columns in (1, 4))
    assert tall[0] > 3 * wide[0] / 1.5
    assert wide[1] > tall[1]


@pytest.mark.parametrize(("count", "columns"), [(0, None), (1, 0)])
def test_an_empty_sheet_is_refused(count, columns):
    with pytest.raises(UserError, match="at least one image and one column"):
        draw_grid([explanation()] * count, columns=columns)


def test_an_explanation_is_printed_on_one_line():
    shown = explanation(name="cat", file="photo")
    extended = ExplainedImage.of(shown, Origin({}, {}))
    for each in (shown, extended):
        assert repr(each) == "<photo: cat (predicted), integrated_gradients, 32 x 32>"
