"""Point cloud and mask by hand, and as views of a figure."""

import numpy as np
import pytest
import torch

from figure_checks import assert_legible, explanation, words
from seewhy.core.errors import UserError
from seewhy.plots.explanation import VIEWS, draw_panel, draw_views
from seewhy.plots.masks import (
    apply_mask,
    compute_mask,
    compute_point_cloud,
    find_sufficient_region,
    outline_region,
)


def test_the_cloud_keeps_positive_values_over_the_threshold_and_changes_nothing() -> None:
    attribution = torch.tensor([[4.0, 2.0], [-8.0, 0.5]])
    before = attribution.clone()
    np.testing.assert_array_equal(compute_point_cloud(attribution, 4.0), [[1, 0.5], [0, 0.125]])
    np.testing.assert_array_equal(compute_point_cloud(attribution, 2.0, threshold=0.5), [[1, 1], [0, 0]])
    assert torch.equal(attribution, before)


def test_the_mask_is_over_a_share_of_the_peak() -> None:
    attribution = torch.tensor([[4.0, 2.0], [-8.0, 0.5]])
    np.testing.assert_array_equal(compute_mask(attribution, 4.0, 0.2, blur=0), [[True, True], [False, False]])
    np.testing.assert_array_equal(compute_mask(attribution, 4.0, 0.6, blur=0), [[True, False], [False, False]])
    assert not compute_mask(-attribution.abs(), 4.0).any()


def test_one_outlying_pixel_does_not_decide_the_mask() -> None:
    attribution = torch.zeros(32, 32)
    attribution[4:12, 4:12] = 1
    attribution[25, 25] = 1000
    kept = compute_mask(attribution, 1.0)
    assert kept[5:11, 5:11].all()
    assert kept.mean() < 0.2


def test_the_image_keeps_its_brightness_inside_the_mask() -> None:
    image = torch.full((3, 2, 2), 0.5)
    shown = apply_mask(image, np.array([[True, False], [False, False]]))
    np.testing.assert_allclose(shown[..., 0], [[0.5, 0.05], [0.05, 0.05]], rtol=1e-6)
    with pytest.raises(UserError, match="background=1 must be"):
        apply_mask(image, np.ones((2, 2), bool), background=1)


def test_views_are_chosen_by_name() -> None:
    shown = explanation()
    named = ["point_cloud", "binary_mask"]
    titles = [cell.titles[0][0] for cell in draw_views(shown, 1.0, "default", 0.7, named)]
    assert titles == ["predicted: cat 0.87", "point cloud", "masked image"]
    assert_legible(draw_panel(shown, views=tuple(VIEWS)))
    nothing = explanation(attribution=-torch.rand(32, 32))
    assert words(draw_panel(nothing, views=tuple(named))).count("no positive values") == 2
    with pytest.raises(UserError, match=r"callbacks.figures.views has cloud; there are: heat_map"):
        draw_panel(shown, views=("cloud",))


def test_a_figure_names_the_expert_and_its_sign() -> None:
    facts = {"expert": 12.0, "influence": -0.25, "activation": 1.5, "passed_over": 0.0}
    text = " ".join(words(draw_panel(explanation(facts=facts))))
    assert "expert: unit 12, which speaks against the target" in text


def test_a_sufficient_region_is_the_top_of_the_map_and_is_outlined() -> None:
    values = torch.arange(32 * 32.0).reshape(32, 32)
    shown = explanation(32, attribution=values, metrics={"sufficient_region": 0.25})
    region = find_sufficient_region(shown)
    assert region is not None
    np.testing.assert_array_equal(region, values.numpy() >= 32 * 24)
    grey = np.full((32, 32, 3), 0.4, np.float32)
    drawn = outline_region(grey, region)
    assert drawn.shape == (320, 320, 3)
    changed = np.zeros((320, 320), dtype=bool)
    changed[240] = True  # a thin line, not the whole row of enlarged pixels
    np.testing.assert_array_equal((drawn != np.float32(0.4)).any(-1), changed)
    assert (drawn[240] == 1).all()
    assert (outline_region(grey + np.float32(0.4), region)[240] == 0).all()
    large = np.zeros((400, 300), dtype=bool)
    large[200:] = True
    assert outline_region(np.zeros((400, 300, 3), np.float32), large).shape == (400, 300, 3)
    assert any(
        "outline: the top 25 % keep the prediction" in text
        for text, _ in draw_views(shown, 1000.0, "default", 0.7, ["overlay"])[1].titles
    )


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan"), 0.5])
def test_no_region_is_drawn_where_there_is_none_or_its_order_is_chance(share: float) -> None:
    values = torch.zeros(32, 32)
    values[:4] = 1
    assert find_sufficient_region(explanation(32, attribution=values, metrics={"sufficient_region": share})) is None
    assert find_sufficient_region(explanation(32, attribution=values)) is None
