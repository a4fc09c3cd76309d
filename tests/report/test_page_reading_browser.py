"""report.html as it is read: fine maps in thumbnails, one method alone, long names, sliders, skip links, paper."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_page_browser import drawn

from seewhy.plots import heatmaps
from seewhy.plots.heatmaps import build_colour_map
from seewhy.report.write import write_run_page
from seewhy.statistics.schema import MetricFact
from sweep_folder import edit_record, names, write_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FACTS = {
    f"{name}_of_{kind}": MetricFact("lower", "AUC", construct)
    for kind in ("pixels", "segments", "tokens")
    for name, construct in (("deletion", "faithfulness"), ("a_score_with_a_long_name", "complexity"))
}
IMAGES, SIDE = 5, 168
Opener = Callable[..., Any]
SMOOTH = torch.nn.functional.interpolate(
    torch.linspace(0.2, 0.8, 36).view(1, 1, 6, 6).repeat(1, 3, 1, 1), (SIDE, SIDE), mode="bilinear"
)[0]


def write_maps(folder: Path, method: str, make: Callable[[int], np.ndarray]) -> None:
    scores = {name: np.random.default_rng(7).random(IMAGES) for name in FACTS}
    run = write_run(folder, method, scores, images=IMAGES, facts=FACTS)
    edit_record(run, explainer={"name": method, "parameters": "", "target": "predicted", "signed": True})
    for kind in ("attributions", "images"):
        (run / kind).mkdir()
    for image, name in enumerate(names(IMAGES)):
        np.save(run / "attributions" / f"{name}.npy", make(image).astype(np.float32))
        (run / "images" / f"{name}.webp").write_bytes(heatmaps.encode_preview(SMOOTH))


def make_fine_map(seed: int) -> np.ndarray:
    """Heavy-tailed noise in a disc: of its single pixels an overlay shows few."""
    noise = np.random.default_rng(seed).standard_t(2, size=(SIDE, SIDE))
    grid = np.indices((SIDE, SIDE)) - SIDE / 3
    return np.abs(noise) * (np.hypot(*grid) < SIDE / 4)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fine")
    write_maps(folder / "0", "integrated_gradients_of_many_steps", make_fine_map)
    write_maps(folder / "1", "random", lambda seed: np.random.default_rng(seed).normal(size=(SIDE, SIDE)))
    write_run_page(folder)
    return folder


@pytest.fixture
def opened(open_page: Opener, swept: Path) -> Opener:
    return partial(open_page, swept / "report.html")


def test_a_fine_map_is_seen_in_its_thumbnail_as_in_its_figure(opened: Opener) -> None:
    tab = opened()
    found = drawn(tab, '.card[data-image="image_0002"] figure:nth-of-type(2) canvas', "overlay").astype(float)
    attribution = torch.from_numpy(make_fine_map(2).astype(np.float32))
    normalised = heatmaps.normalise(attribution, heatmaps.compute_scale(attribution), True)
    ramp = build_colour_map("default", "signed")
    whole = 255 * heatmaps.blend_overlay(SMOOTH, heatmaps.average_fine_map(normalised), ramp)
    single = 255 * heatmaps.blend_overlay(SMOOTH, normalised, ramp)
    assert found.shape == whole.shape
    assert np.percentile(np.abs(found - whole), 95) <= 12, "maps have 255 levels on the page"
    disc = make_fine_map(0) > 0
    coloured = [(np.ptp(each, axis=-1)[disc] > 40).mean() for each in (found, single)]
    assert coloured[0] > 2 * coloured[1]
    tab.locator('.card[data-image="image_0002"] .thumb').nth(1).click()
    tab.wait_for_function("() => document.querySelector('#viewer-grain')?.textContent")
    assert tab.inner_text("#viewer-grain").startswith("a fine map: averaged over 6 × 6 pixels")
    tab.select_option("#viewer-view", "heat")
    assert tab.inner_text("#viewer-grain") == "", "the heat map shows every pixel"


@pytest.mark.parametrize("width", [390, 1400])
def test_no_name_is_cut_and_no_table_is_wider_than_its_box(opened: Opener, width: int) -> None:
    tab = opened(width)
    cut = tab.evaluate(
        """() => [...document.querySelectorAll('.method, .look h3, .look p, tbody th, figcaption, .chart text, .tag, dd')]
        .filter((one) => one.offsetParent && one.clientWidth && one.scrollWidth > one.clientWidth + 1)
        .map((one) => one.outerHTML.slice(0, 200))"""
    )
    assert cut == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_what_is_rarely_asked_for_is_folded(open_page: Opener, swept: Path) -> None:
    tab = open_page(swept / "report.html")
    tab.reload()
    assert tab.locator("#more").get_attribute("open") is None
    shown = [one for one in tab.locator("#controls select, #controls input[type=search]").all() if one.is_visible()]
    assert [one.get_attribute("id") for one in shown] == ["metric", "sort"]


def test_arrows_move_the_slider_that_has_the_focus_and_no_picture(opened: Opener) -> None:
    tab = opened()
    tab.locator(".card .thumb").nth(1).click()
    tab.select_option("#viewer-other", "image")
    said = "[viewer.image, viewer.one, $('handle').value]"
    before = tab.evaluate(said)
    tab.focus("#handle")
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate(said) == [*before[:2], "51"]
    tab.focus("#close")
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate("viewer.image") == before[0] + 1
    tab.keyboard.press("Escape")
    skip = tab.locator("a.skip.inner")
    skip.focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "after-gallery"


def test_paper_shows_every_picture_and_no_control(opened: Opener) -> None:
    tab = opened(703, 1017, color_scheme="dark")
    tab.wait_for_function("() => [...document.querySelectorAll('.thumb canvas')].every((one) => one.dataset.drawn)")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.emulate_media(media="print")
    style = "getComputedStyle(document.querySelector('.look')).printColorAdjust"
    assert tab.evaluate(style) == "exact"
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    hidden = "#controls, .tablist, .pager, .actions, #theme, .contents"
    assert [one for one in tab.locator(hidden).all() if one.is_visible()] == []
    assert all(one.is_visible() for one in tab.locator(".panel").all())
    assert tab.evaluate("document.documentElement.scrollWidth") <= 703
    assert len(tab.pdf(format="A4")) > 20_000


def test_one_method_alone_has_pairs_and_no_leaderboard(open_page: Opener, tmp_path: Path) -> None:
    write_maps(tmp_path, "grad_cam", make_fine_map)
    tab = open_page(write_run_page(tmp_path), 1400)
    assert tab.locator(".board").count() == 0
    rows = tab.locator("#leaderboard .scores tbody tr").all()
    assert [row.get_attribute("data-metric") for row in rows if row.is_visible()] == sorted(FACTS)
    assert tab.inner_text("#leaderboard-title") == "Scores"
    boxes = [card.bounding_box() for card in tab.locator(".card").all()]
    assert boxes[0]["y"] == boxes[1]["y"] == boxes[2]["y"], "three pairs stand in a line"
    picture = tab.locator(".card .thumb").first.bounding_box()
    assert 2 * picture["width"] > 0.8 * boxes[0]["width"]
    assert tab.locator(".look canvas").first.bounding_box()["y"] < 700
