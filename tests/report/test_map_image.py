"""Maps as grey pictures, and how far maps agree."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from seewhy.plots import heatmaps
from seewhy.plots.heatmaps import encode_preview
from seewhy.report.html.maps import (
    BUDGET,
    SIDES,
    ZERO,
    build_data_url,
    choose_map_side,
    compute_agreement,
    dump_script_json,
    encode_map,
    shrink,
)


def decode_map(picture: bytes, signed: bool) -> np.ndarray:
    """The normalised values in a picture of `encode_map`: what the page colours."""
    greys = np.asarray(Image.open(io.BytesIO(picture)), np.float32)
    return (greys - ZERO) / np.float32(127) if signed else greys / np.float32(255)


def noise(seed: int, side: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)


@pytest.mark.parametrize("signed", [True, False])
def test_a_picture_holds_what_figures_colour(signed: bool) -> None:
    attribution = noise(0)
    painted = encode_map(attribution, signed, 24)
    scale = heatmaps.compute_scale(torch.from_numpy(attribution))
    expected = heatmaps.normalise(torch.from_numpy(attribution), scale, signed)
    assert painted.scale == scale
    np.testing.assert_allclose(
        decode_map(painted.picture, signed), expected, atol=0.5 / (127 if signed else 255) + 1e-6
    )


def test_zero_and_both_ends_are_exact() -> None:
    attribution = np.array([[-2.0, 0.0], [2.0, 1.0]], np.float32)
    assert decode_map(encode_map(attribution, True, 8).picture, True).tolist() == [
        [-1, 0],
        [1, pytest.approx(0.5, abs=0.004)],
    ]
    assert decode_map(encode_map(attribution, False, 8).picture, False).tolist() == [
        [0, 0],
        [1, pytest.approx(0.5, abs=0.003)],
    ]


def test_a_smaller_picture_is_the_mean_of_boxes() -> None:
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_allclose(shrink(values, 2), [[2.5, 4.5], [10.5, 12.5]])
    assert shrink(values, 4) is values
    assert shrink(np.zeros((8, 4), np.float32), 4).shape == (4, 2)


def test_a_map_that_cannot_be_drawn_says_why() -> None:
    assert encode_map(np.zeros((4, 4), np.float32), True, 4) == (b"", 0.0, "the map is zero everywhere")
    assert encode_map(np.full((2, 2), np.nan, np.float32), True, 4).flaw == "the map has 4 NaN values"


def test_maps_are_as_large_as_the_budget_allows() -> None:
    sample = [(noise(seed, 224), True) for seed in range(3)]
    sizes = {side: np.mean([len(encode_map(one, True, side).picture) for one, _ in sample]) for side in (224, 112)}
    assert choose_map_side(sample, 1) == SIDES[0]
    assert choose_map_side(sample, 10, int(sizes[112] * 10) + 1) == 112
    assert choose_map_side(sample, 10, int(sizes[224] * 10) + 10) in SIDES[:2]
    assert choose_map_side(sample, 10, 1) == SIDES[-1]
    assert choose_map_side([], 5) == SIDES[0]
    assert BUDGET * 4 / 3 < 45_000_000


def test_agreement_is_a_rank_correlation() -> None:
    first = noise(1)
    assert compute_agreement([(first, True), (first**3, True)]) == pytest.approx(1)
    assert compute_agreement([(first, True), (-first, True)]) == pytest.approx(-1)
    assert compute_agreement([(first, True), (-(np.abs(first) ** 2), False)]) == pytest.approx(1)
    assert compute_agreement([(first, True), (-first, True), (first, True)]) == pytest.approx(-1 / 3)
    assert abs(compute_agreement([(noise(2, 56), True), (noise(3, 56), True)])) < 0.06


def test_maps_without_an_order_take_no_part() -> None:
    first, flat, broken = noise(1), np.zeros((24, 24), np.float32), np.full((24, 24), np.nan, np.float32)
    assert compute_agreement([(first, True), (flat, True), (broken, True), (first, True)]) == pytest.approx(1)
    assert np.isnan(compute_agreement([(first, True), (flat, True)]))
    assert np.isnan(compute_agreement([(first, True)]))


def test_json_cannot_end_its_script_element() -> None:
    content = {"</script>": ["<!--", float("nan"), "a & b", "\u2028", 0.1, (True, None)]}
    text = str(dump_script_json(content))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"</script>": ["<!--", None, "a & b", "\u2028", 0.1, [True, None]]}


def test_previews_are_small_and_like_the_image() -> None:
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8), (300, 200), mode="bicubic").clamp(0, 1)[0]
    content = encode_preview(image)
    address = build_data_url(content)
    assert address.startswith("data:image/webp;base64,")
    assert base64.b64decode(address.split(",")[1]) == content
    assert len(content) < 20_000
    tiny = torch.randint(0, 256, (3, 32, 32)) / 255
    from io import BytesIO

    from PIL import Image

    assert Image.open(BytesIO(content)).size == (171, 256)
    kept = np.asarray(Image.open(BytesIO(encode_preview(tiny))))
    np.testing.assert_array_equal(kept, (tiny * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
