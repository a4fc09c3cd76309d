"""Colour maps, also with a red-green deficiency, and the way of values to them: scale, parts, overlay by hand."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.plots import heatmaps
from seewhy.plots.heatmaps import (
    LMS_TO_OKLAB,
    RGB_TO_LMS,
    STEPS,
    average_fine_map,
    blend_overlay,
    build_colour_map,
    choose_block,
    compute_scale,
    convert_oklab_to_srgb,
    paint_overlay_bar,
)

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
KINDS = ("signed", "positive", "negative", "unsigned")


def convert_srgb_to_oklab(srgb):
    """Convert sRGB [..., 3] in [0, 1] to OKLab [..., 3]: lightness in [0, 1], green to red, blue to yellow."""
    linear = linearise(srgb)
    return np.asarray(np.cbrt(linear @ RGB_TO_LMS.T) @ LMS_TO_OKLAB.T)


def linearise(srgb):
    """Convert sRGB [...] in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    values = np.asarray(srgb, dtype=np.float64)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def steps(table):
    return np.linalg.norm(np.diff(convert_srgb_to_oklab(table), axis=0), axis=1)


def as_seen_with_deuteranopia(srgb):
    linear = np.clip(linearise(np.asarray(srgb)) @ DEUTERANOPIA.T, 0, 1)
    return convert_srgb_to_oklab(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize(
    ("srgb", "oklab"),
    [
        ((1, 1, 1), (1, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (0.627955, 0.224863, 0.125846)),
        ((0, 0, 1), (0.452014, -0.032457, -0.311528)),
    ],
)
def test_oklab_of_known_colours(srgb, oklab):
    assert convert_srgb_to_oklab(np.array(srgb)) == pytest.approx(oklab, abs=1e-4)
    assert convert_oklab_to_srgb(np.array(oklab)) == pytest.approx(srgb, abs=1e-3)


def test_conversion_and_back():
    colours = np.random.default_rng(0).random((50, 3))
    assert convert_oklab_to_srgb(convert_srgb_to_oklab(colours)) == pytest.approx(colours, abs=1e-6)


@pytest.mark.parametrize("kind", ["signed", "positive", "negative"])
def test_steps_are_uniform_within_an_arm(kind):
    length = steps(build_colour_map("default", kind).table)
    assert length.max() / length.min() < 1.01


def test_signed_map_is_symmetric_in_lightness_and_neutral_in_the_middle():
    lab = convert_srgb_to_oklab(build_colour_map("default", "signed").table)
    assert lab[:, 0] == pytest.approx(lab[::-1, 0], abs=1e-4)
    assert np.diff(lab[:STEPS, 0]).min() > 0
    assert lab[STEPS - 1] == pytest.approx((0.97, 0, 0), abs=1e-3)
    assert lab[0, 2] < -0.1  # against: blue
    assert lab[-1, 1] > 0.1  # for: vermilion


def test_unsigned_map_rises_in_lightness():
    assert np.diff(convert_srgb_to_oklab(build_colour_map("default", "unsigned").table)[:, 0]).min() > 0


def test_both_ends_stay_far_apart_with_deuteranopia():
    def distance(name):
        lower, upper = as_seen_with_deuteranopia(build_colour_map(name, "signed").table[[0, -1]])
        return np.linalg.norm(upper[1:] - lower[1:])

    assert distance("default") > 0.25
    assert distance("default") > 3 * distance("classic")


def test_parts_are_the_arms_of_the_signed_map():
    signed = build_colour_map("default", "signed")
    values = np.linspace(0, 1, 256)
    assert np.array_equal(signed(values), build_colour_map("default", "positive")(values))
    assert np.array_equal(signed(-values), build_colour_map("default", "negative")(values))


def test_values_pick_their_colour_and_are_clipped():
    ramp = build_colour_map("classic", "signed")
    assert ramp(np.array([[-1.0, 0.0, 1.0, 7.0]])) == pytest.approx(
        np.array([[[1, 0, 0], [1, 1, 1], [0, 0.501961, 0], [0, 0.501961, 0]]]), abs=1e-5
    )


def test_classic_parts_are_those_of_matplotlib():
    for kind, name in (("positive", "Greens"), ("negative", "Reds"), ("unsigned", "Blues")):
        expected = np.array([matplotlib.colormaps[name](value)[:3] for value in (0.0, 1.0)])
        assert build_colour_map("classic", kind)(np.array([0.0, 1.0])) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["default", "classic"])
def test_tables_are_colours(name, kind):
    ramp = build_colour_map(name, kind)
    assert ramp.table.dtype == np.float32
    assert ramp.table.min() >= 0
    assert ramp.table.max() <= 1
    assert ramp.lowest == (-1 if kind == "signed" else 0)


def test_unknown_name_says_what_to_set():
    with pytest.raises(UserError, match=r"'jet'.*callbacks\.figures\.colours.*default, classic"):
        build_colour_map("jet", "signed")


# scale, normalised values, overlay


def test_scale_leaves_the_top_share_of_the_mass_not_of_the_pixels():
    attribution = torch.tensor([[1.0, -2.0], [3.0, -4.0]])  # cumulative mass 1, 3, 6, 10
    assert heatmaps.compute_scale(attribution, 0) == 4
    assert heatmaps.compute_scale(attribution, 40) == 3
    assert heatmaps.compute_scale(attribution, 41) == 3
    assert heatmaps.compute_scale(attribution, 39) == 4
    assert heatmaps.compute_scale(attribution, 70) == 2
    assert heatmaps.compute_scale(attribution, 71) == 2
    assert heatmaps.compute_scale(attribution, 99) == 1


def test_scale_ignores_a_lone_outlier_that_holds_little_mass():
    attribution = torch.ones(100, 100)
    attribution[0, 0] = 50.0
    assert heatmaps.compute_scale(attribution) == 1
    assert heatmaps.compute_scale(attribution, 0.1) == 50


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_scale_of_a_map_that_cannot_be_drawn_is_zero(bad):
    assert heatmaps.compute_scale(torch.full((4, 4), bad)) == 0.0


@pytest.mark.parametrize("percent", [-1, 100, float("nan")])
def test_impossible_share_is_refused(percent):
    with pytest.raises(UserError, match=r"callbacks\.figures\.outlier_percent"):
        heatmaps.compute_scale(torch.ones(2, 2), percent)


def test_scale_agrees_with_captum():
    visualization = pytest.importorskip("captum.attr._utils.visualization")
    attribution = torch.randn(40, 40, generator=torch.Generator().manual_seed(1))
    expected = visualization._normalize_attr(attribution.double().numpy(), "all", 2)
    assert heatmaps.normalise(attribution, heatmaps.compute_scale(attribution), signed=True) == pytest.approx(
        expected, abs=1e-6
    )


def test_normalised_values_are_clipped():
    attribution = torch.tensor([[-4.0, -1.0], [1.0, 4.0]])
    signed = heatmaps.normalise(attribution, 2.0, signed=True)
    assert signed.dtype == np.float32
    assert signed.tolist() == [[-1, -0.5], [0.5, 1]]
    assert heatmaps.normalise(attribution, 2.0, signed=False).tolist() == [[0, 0], [0.5, 1]]
    assert not heatmaps.normalise(attribution, 0.0, signed=True).any()


def test_parts_add_up():
    attribution = torch.tensor([[-4.0, 0.0, 3.0]])
    assert heatmaps.clip_positive(attribution).tolist() == [[0, 0, 3]]
    assert heatmaps.clip_negative(attribution).tolist() == [[4, 0, 0]]


def test_overlay_by_hand():
    image = torch.tensor([0.3, 0.6, 0.9]).view(3, 1, 1).expand(3, 1, 3)  # grey 0.6
    normalised = np.array([[0.0, 0.5, -1.0]], np.float32)
    painted = heatmaps.blend_overlay(image, normalised, build_colour_map("classic", "signed"), strength=0.8)
    green, red = np.array([0, 128 / 255, 0]), np.array([1, 0, 0])
    expected = [[0.6, 0.6, 0.6], 0.6 * 0.6 + 0.4 * green, 0.2 * 0.6 + 0.8 * red]
    assert painted[0] == pytest.approx(np.array(expected), abs=1e-5)


def test_overlay_of_an_unsigned_map_has_the_colour_of_the_value():
    ramp = build_colour_map("default", "unsigned")
    normalised = np.array([[0.5]], np.float32)
    painted = heatmaps.blend_overlay(torch.zeros(3, 1, 1), normalised, ramp, strength=1.0)
    assert painted == pytest.approx(0.5 * ramp(normalised), abs=1e-6)


def make_fine_map(seed: int, signed: bool) -> np.ndarray:
    """Rare strong pixels, most of them in the left upper quarter of 224 x 224."""
    generator = np.random.default_rng(seed)
    values = np.zeros((224, 224), np.float32)
    rows, columns = generator.integers(0, 112, (2, 900))
    values[rows, columns] = generator.uniform(0.5, 1, 900)
    if signed:
        values[112:, 112:][generator.integers(0, 112, 300), generator.integers(0, 112, 300)] = -0.8
    return values


@pytest.mark.parametrize("signed", [False, True])
def test_a_fine_map_is_seen_in_its_overlay(signed: bool) -> None:
    fine = make_fine_map(0, signed)
    assert choose_block(fine) == 7
    seen = average_fine_map(fine)
    assert (np.abs(fine) >= 0.25).mean() < 0.03
    assert (seen[:112, :112] >= 0.25).mean() > 0.4
    assert np.abs(seen[:100, 124:]).max() == 0
    assert (seen.max(), seen.min() < 0) == (1, signed)
    means = fine.reshape(32, 7, 32, 7).mean(axis=(1, 3))
    middle = seen[3::7, 3::7]  # the middle of each block has its mean
    np.testing.assert_allclose(middle, np.clip(means / compute_scale(torch.from_numpy(means)), -1, 1), atol=1e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_single_pixel_speckle_is_fine_with_and_without_sign(signed: bool) -> None:
    generator = np.random.default_rng(0)
    strong = np.zeros((224, 224), np.float32)
    strong[56:168, 56:168] = 1
    gradient = generator.standard_normal((224, 224)).astype(np.float32) * (0.2 + 0.3 * strong)
    speckle = np.clip(gradient if signed else np.abs(gradient), -1, 1)
    assert choose_block(speckle) == 7
    rows = np.linspace(0, 3, 224, dtype=np.float32)
    smooth = np.abs(np.sin(rows[:, None]) * np.cos(rows))
    assert choose_block(smooth) == 1
    assert choose_block(np.full((224, 224), 0.5, np.float32)) == 1


def test_a_coarse_or_small_map_is_left_as_it_is() -> None:
    coarse = np.zeros((224, 224), np.float32)
    coarse[:112, :112] = 1
    small = np.zeros((32, 32), np.float32)
    small[3, 3] = 1
    for values in (coarse, small, np.zeros((224, 224), np.float32)):
        assert average_fine_map(values) is values
    assert average_fine_map(make_fine_map(1, False)[:200, :150]).shape == (200, 150)


@pytest.mark.parametrize("kind", ["signed", "unsigned"])
def test_the_bar_of_an_overlay_holds_its_colours(kind: str) -> None:
    ramp = build_colour_map("default", kind)  # type: ignore[arg-type]
    bar = paint_overlay_bar(ramp, (101, 2), 0.7)
    image = torch.stack([torch.zeros(3, 1), torch.ones(3, 1)], dim=-1)
    for row, value in ((0, 1.0), (50, 0.5 if kind == "unsigned" else 0.0), (100, float(ramp.lowest))):
        pair = blend_overlay(image, np.full((1, 2), value, np.float32), ramp, 0.7)
        np.testing.assert_allclose(bar[row], pair[0], atol=1e-6)
