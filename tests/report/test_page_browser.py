"""report.html of real runs in a real browser: what is shown is what is in the files."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from commands import composed
from seewhy.cli import tasks
from seewhy.plots import heatmaps
from seewhy.plots.heatmaps import build_colour_map
from seewhy.plots.masks import compute_mask
from seewhy.report.leaderboard import format_value

pytestmark = [pytest.mark.browser, pytest.mark.slow]
EXPLAINERS, METRICS, IMAGES = ("random", "saliency", "grad_cam"), ("deletion", "insertion"), 8
Opener = Callable[..., Any]

ADDRESS = "location.href"
"""Asked of the page itself: Playwright hears of a changed address later."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on three real runs, with the runs below it."""
    place = tmp_path_factory.mktemp("runs")
    common = ["model=cifar_cnn", "model.weights=shipped", "trainer=cpu", "probe_batch_size=16", "hydra.mode=RUN"]
    common += [f"data.limit={IMAGES}", "metric=[deletion,insertion,sparseness]", "logger=[]", "page=false"]
    common += ["callbacks=[attribution,previews,faithfulness,tables]"]
    for name in EXPLAINERS:
        folder = place / "runs" / name
        tasks.execute(tasks.explain, composed("explain", [*common, f"explainer={name}", f"output={folder}"]))
    given = [f"runs=[{place / 'runs'}]", f"output={place / 'report'}", "hydra.mode=RUN"]
    tasks.execute(tasks.report, composed("report", given))
    return place / "report"


@pytest.fixture
def opened(open_page: Opener, made: Path) -> Opener:
    return partial(open_page, made / "report.html")


def names(tab: Any) -> list[str]:
    """The images that are shown, in order."""
    return [card.get_attribute("data-image") for card in tab.locator(".card").all()]


def drawn(tab: Any, selector: str, view: str) -> np.ndarray:
    """The pixels [height, width, 3] of a canvas once it shows a view."""
    canvas = tab.locator(selector)
    canvas.scroll_into_view_if_needed()
    tab.wait_for_function("([s, v]) => document.querySelector(s)?.dataset.drawn === v", arg=[selector, view])
    data = canvas.evaluate(
        "c => { const { data } = pixels(c, c.width, c.height); return [c.width, c.height, ...data]; }"
    )
    return np.array(data[2:], np.uint8).reshape(data[1], data[0], 4)[..., :3]


def shown_methods(tab: Any) -> list[str]:
    """The methods of a card from left to right."""
    return tab.evaluate("shownMethods().map((i) => model().explainers[i].name)")


def thumb(image: str, place: int) -> str:
    return f'.card[data-image="{image}"] figure:nth-of-type({place + 1}) canvas'


def metrics(made: Path) -> pd.DataFrame:
    return pd.concat([pd.read_csv(path) for path in (made.parent / "runs").glob("*/metrics.csv")])


def test_the_leaderboard_shows_the_summary(opened: Opener, made: Path) -> None:
    tab, summary = opened(), pd.read_csv(made / "summary.csv").set_index(["explainer", "metric"])
    for name in EXPLAINERS:
        for metric in METRICS:
            cell, row = (
                tab.locator(f'.board tr[data-explainer="{name}"] td[data-metric="{metric}"]'),
                summary.loc[(name, metric)],
            )
            assert cell.locator(".value").inner_text().lstrip("≈?").strip().endswith(format_value(row["mean"]))
            assert (
                cell.locator(".interval").inner_text() == f"{format_value(row['low'])} to {format_value(row['high'])}"
            )
    order = [row.get_attribute("data-explainer") for row in tab.locator(".panel:not([hidden]) .board tbody tr").all()]
    assert order == pd.read_csv(made / "leaderboard.csv")["explainer"].tolist()


def test_filters_leave_what_they_say(opened: Opener, made: Path) -> None:
    tab = opened()
    said = pd.read_csv(made.parent / "runs" / "saliency" / "predictions.csv")
    assert names(tab) == said["image"].tolist()
    tab.select_option("#correct", "no")
    assert names(tab) == said[said["correct"] == "no"]["image"].tolist()
    assert f"of {IMAGES} images" in tab.inner_text("#count")
    predicted = said["predicted"].iloc[0]
    tab.select_option("#correct", "")
    tab.select_option("#predicted", f"={predicted}")
    assert names(tab) == said[said["predicted"] == predicted]["image"].tolist()
    tab.click("#reset")
    tab.fill("#search", said["image"].iloc[2])
    assert names(tab) == [said["image"].iloc[2]]
    tab.click("#reset")
    agreements = tab.evaluate("FACTS.models[0].images.map((one) => one.agreement)")
    tab.locator("#agreement-high").fill("0.1")
    assert names(tab) == [name for name, value in zip(said["image"], agreements, strict=True) if value <= 0.1]


def test_images_are_sorted_by_any_score(opened: Opener, made: Path) -> None:
    tab, table = opened(), metrics(made)
    labels = tab.evaluate("FACTS.models[0].explainers.map((one) => one.name)")
    tab.select_option("#metric", "insertion")
    tab.select_option("#sort", f"s{labels.index('grad_cam')}")
    tab.click("#descending")
    part = table[(table["metric"] == "insertion") & (table["explainer"] == "grad_cam")]
    assert names(tab) == part.sort_values("value", ascending=False, kind="stable")["image"].tolist()
    first = names(tab)[0]
    shown = [float(one.get_attribute("data-value")) for one in tab.locator(f'.card[data-image="{first}"] .score').all()]
    known = table[(table["metric"] == "insertion") & (table["image"] == first)].set_index("explainer")["value"]
    assert shown == [known[name] for name in shown_methods(tab)]
    assert shown_methods(tab)[-1] == "random"


def test_views_are_the_views_of_the_figures(opened: Opener, made: Path) -> None:
    tab = opened()
    image = names(tab)[0]
    photo = np.asarray(
        Image.open(io.BytesIO((made.parent / "runs" / "random" / "images" / f"{image}.webp").read_bytes()))
    )
    np.testing.assert_array_equal(drawn(tab, thumb(image, 0), "original"), photo)
    for name, signed in (("random", True), ("grad_cam", False)):
        attribution = torch.from_numpy(np.load(made.parent / "runs" / name / "attributions" / f"{image}.npy"))
        normalised = heatmaps.normalise(attribution, heatmaps.compute_scale(attribution), signed)
        ramp = build_colour_map("default", "signed" if signed else "unsigned")
        place = thumb(image, shown_methods(tab).index(name) + 1)
        tab.check('input[value="heat"]', force=True)
        step = np.abs(np.diff(ramp.table, axis=0)).max() * 255 * (len(ramp.table) / 254 + 1)
        heat = drawn(tab, place, "heat").astype(float)
        assert np.abs(heat - 255 * ramp(normalised)).max() <= step + 1
        tab.check('input[value="overlay"]', force=True)
        tab.locator("#strength").fill("0.4")
        whole = heatmaps.blend_overlay(torch.from_numpy(photo.transpose(2, 0, 1) / 255), normalised, ramp, 0.4)
        tab.wait_for_timeout(200)
        found = drawn(tab, place, "overlay").astype(float)
        assert np.percentile(np.abs(found - 255 * whole), 99) <= 4
    tab.check('input[value="original"]', force=True)
    np.testing.assert_array_equal(drawn(tab, thumb(image, 1), "original"), photo)


def test_a_picture_opens_large_and_the_keyboard_moves_on(opened: Opener) -> None:
    tab = opened()
    first, second = names(tab)[:2]
    labels = tab.evaluate("FACTS.models[0].explainers.map((one) => one.name)")
    opener = tab.locator(f'.card[data-image="{first}"] .thumb').nth(1)
    assert first in opener.get_attribute("aria-label")
    assert shown_methods(tab)[0] in opener.get_attribute("aria-label")
    opener.focus()
    tab.keyboard.press("Enter")
    viewer = tab.locator("#viewer")
    assert viewer.is_visible()
    at = labels.index(shown_methods(tab)[0])
    assert tab.input_value("#viewer-one") == str(at)
    tab.keyboard.press("ArrowRight")
    after = at + 1 if at + 1 < len(labels) else "image"
    assert tab.input_value("#viewer-one") == str(after)
    tab.keyboard.press("ArrowDown")
    assert tab.inner_text("#viewer-title") == second
    tab.keyboard.press("2")
    assert tab.input_value("#viewer-view") == "heat"
    words = "image" if after == "image" else labels[after]
    assert words in tab.locator("#canvas-one").get_attribute("aria-label")
    tab.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert opener.evaluate("one => document.activeElement === one")


def test_two_methods_are_compared_with_a_slider(opened: Opener) -> None:
    tab = opened()
    tab.locator(".thumb").nth(1).click()
    tab.select_option("#viewer-other", "2")
    tab.wait_for_function("document.querySelector('#canvas-other')?.dataset.drawn === 'overlay'")
    clip = lambda: tab.locator("#canvas-other").evaluate("one => one.style.clipPath")  # noqa: E731
    assert clip() == "inset(0px 0px 0px 50%)"
    tab.focus("#handle")
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert clip() == "inset(0px 0px 0px 48%)"
    box = tab.locator("#handle").bounding_box()
    tab.mouse.move(box["x"] + 0.48 * box["width"], box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2, steps=4)
    tab.mouse.up()
    assert 74 <= float(tab.input_value("#handle")) <= 86
    assert "saliency" in tab.inner_text("#viewer") or "grad_cam" in tab.inner_text("#viewer")


def test_constructs_are_tabs(opened: Opener) -> None:
    tab = opened()
    shown = lambda: [  # noqa: E731
        each.get_attribute("data-construct") for each in tab.locator(".board").all() if each.is_visible()
    ]
    assert [each.inner_text() for each in tab.locator("[role=tab]").all()] == ["Faithfulness", "Complexity"]
    assert shown() == ["faithfulness"]
    tab.focus("[role=tab] >> nth=0")
    tab.keyboard.press("ArrowRight")
    assert shown() == ["complexity"]
    assert tab.evaluate("document.activeElement.textContent") == "Complexity"
    tab.emulate_media(media="print")
    assert shown() == ["faithfulness", "complexity"]


def test_a_column_sorts_the_methods(opened: Opener, made: Path) -> None:
    tab, board = opened(), pd.read_csv(made / "leaderboard.csv").set_index("explainer")
    rows = lambda: [  # noqa: E731
        each.get_attribute("data-explainer")
        for each in tab.locator('.board[data-construct="faithfulness"] tbody tr').all()
    ]
    for metric, rising in (("deletion", True), ("insertion", False)):
        head = tab.locator(".board thead th", has_text=metric)
        head.locator("button").click()
        assert rows() == board.sort_values(metric, ascending=rising, kind="stable").index.tolist()
        assert head.get_attribute("aria-sort") == ("ascending" if rising else "descending")
        head.locator("button").click()
        assert rows() == board.sort_values(metric, ascending=not rising, kind="stable").index.tolist()


def test_an_image_has_its_own_curves(opened: Opener, made: Path) -> None:
    tab = opened()
    image = names(tab)[1]
    at = shown_methods(tab).index("saliency") + 1
    tab.locator(f'.card[data-image="{image}"] .thumb').nth(at).click()
    for name in ("saliency", "random"):
        table = pd.read_csv(made.parent / "runs" / name / "curves.csv")
        for curve in table["curve"].unique():
            rows = table[(table["image"] == image) & (table["curve"] == curve)].sort_values("share")
            shown = tab.evaluate(
                "([c, m]) => curveOf(0, viewer.image, there().curves.findIndex((one) => one.name === c),"
                " there().explainers.findIndex((one) => one.name === m))",
                [curve, name],
            )
            np.testing.assert_allclose(shown, rows[["share", "probability"]], rtol=1e-3, atol=1e-6)
            assert tab.locator(f'#own-curves [data-curve="{curve}"] path[data-method="{name}"]').is_visible()
    assert tab.locator('#own-curves path[data-method="grad_cam"]').count() == 0


def test_the_masked_view_is_that_of_the_figures(opened: Opener, made: Path) -> None:
    tab = opened()
    image = names(tab)[0]
    runs = made.parent / "runs" / "grad_cam"
    photo = np.asarray(Image.open(io.BytesIO((runs / "images" / f"{image}.webp").read_bytes())), float)
    attribution = torch.from_numpy(np.load(runs / "attributions" / f"{image}.npy"))
    mask = compute_mask(attribution, heatmaps.compute_scale(attribution))
    tab.check('input[value="masked"]', force=True)
    found = drawn(tab, thumb(image, shown_methods(tab).index("grad_cam") + 1), "masked").astype(float)
    expected = photo * np.where(mask, 1, 0.1)[..., None]
    assert (np.abs(found - expected).max(-1) <= 1).mean() > 0.97  # maps have 255 levels on the page


def test_a_dot_opens_its_image(opened: Opener) -> None:
    tab = opened()
    facts = tab.evaluate("model().images.map((one) => [one.name, one.probability, one.agreement])")
    dots = tab.locator(".scatter [data-image]")
    assert [dot.get_attribute("data-image") for dot in dots.all()] == [name for name, _, _ in facts]
    across = [float(dot.get_attribute("cx")) for dot in dots.all()]
    assert np.corrcoef(across, [probability for _, probability, _ in facts])[0, 1] > 0.9999
    dots.nth(3).click(force=True)
    assert tab.inner_text("#viewer-title") == facts[3][0]


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(opened: Opener, width: int) -> None:
    tab = opened(width, 740)
    for details in tab.locator("details").all():
        details.evaluate("one => { one.open = true; }")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.locator(".thumb").nth(1).click()
    box = tab.locator("#viewer").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def test_dark_follows_the_system_and_the_button(opened: Opener) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = opened(color_scheme="light"), opened(color_scheme="dark")
    assert light.evaluate(ground) == "rgb(251, 250, 248)"
    assert dark.evaluate(ground) == "rgb(19, 20, 22)"
    light.click("#theme")
    light.click("#theme")
    assert light.evaluate(ground) == "rgb(19, 20, 22)"
    assert light.inner_text("#theme") == "Theme: dark"


def test_everything_is_named_for_those_who_do_not_see_it(opened: Opener) -> None:
    tab = opened()
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll('button, input, select, canvas, img, svg[role=img]')].filter((one) =>
        one.offsetParent !== null && !(one.getAttribute('aria-label') || one.textContent.trim() || one.alt
        || one.labels?.length)).map((one) => one.outerHTML)"""
    )
    assert nameless == []
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"


def test_the_first_picture_is_on_the_first_screen(opened: Opener, made: Path) -> None:
    for width, height in ((1400, 900), (390, 844)):
        tab = opened(width, height)
        box = tab.locator(".look canvas").first.bounding_box()
        assert box["y"] < height
    assert tab.inner_text('[data-tile="Images"] dd >> nth=0') == str(IMAGES)
    predictions = pd.read_csv(made.parent / "runs" / "saliency" / "predictions.csv")
    share = (predictions["correct"] == "yes").mean()
    assert tab.inner_text('[data-tile="Accuracy"] dd >> nth=0') == f"{100 * share:.1f} %"


def test_an_image_of_several_targets_is_looked_at_once(opened: Opener) -> None:
    tab = opened()
    worst = tab.evaluate("model().images.map((one) => one.suspicion)")
    shown = [card.get_attribute("data-image") for card in tab.locator(".look").all()]
    order = sorted(range(IMAGES), key=lambda i: -worst[i])[:6]
    assert shown == [tab.evaluate("i => model().images[i].name", i) for i in order]
    tab.evaluate("() => { for (const one of model().images) one.image = 'same'; fillFocus(); }")
    assert [card.get_attribute("data-image") for card in tab.locator(".look").all()] == shown[:1]


def test_a_view_is_an_address(opened: Opener) -> None:
    tab = opened()
    tab.select_option("#metric", "insertion")
    tab.select_option("#sort", "name")
    tab.check('input[value="heat"]', force=True)
    tab.click("#descending")
    tab.select_option("#correct", "yes")
    tab.locator("#methods-shown summary").click()
    tab.locator("#methods input").nth(0).uncheck()
    tab.locator("#strength").evaluate("one => { one.disabled = false; }")
    tab.locator("#strength").fill("0.4")
    tab.locator("#strength").dispatch_event("change")
    tab.locator("[role=tab]").nth(1).click()
    tab.locator('.board[data-construct="complexity"] thead th button').first.click()
    board = '.board[data-construct="complexity"] tbody tr'
    rows = [row.get_attribute("data-explainer") for row in tab.locator(board).all()]
    state = "[state.view, state.strength, [...state.hidden], shownMethods(), $('sort').value, $('correct').value]"
    expected, said, address = names(tab), tab.evaluate(state), tab.evaluate(ADDRESS)
    other = reopen(opened(), address)
    assert names(other) == expected
    assert other.evaluate(state) == said
    assert (said[0], said[1], len(said[2])) == ("heat", 0.4, 1)
    assert other.input_value("#metric") == "insertion"
    assert other.locator("#methods input").nth(0).is_checked() is False
    assert [each.get_attribute("aria-selected") for each in other.locator("[role=tab]").all()] == ["false", "true"]
    assert other.locator(board).first.is_visible()
    assert [row.get_attribute("data-explainer") for row in other.locator(board).all()] == rows
    assert other.evaluate(ADDRESS) == address, "what was read is what is written"


def test_an_address_of_the_methods_alone_leads_to_them(opened: Opener) -> None:
    tab = opened()
    tab.locator("[role=tab]").nth(1).click()
    assert tab.evaluate(ADDRESS).endswith("#tab0=Complexity")
    other = reopen(opened(), tab.evaluate(ADDRESS))
    other.wait_for_function("() => Math.abs($('leaderboard').getBoundingClientRect().top) < 200")
    other.locator("[role=tab]").nth(0).click()
    assert "#" not in other.evaluate(ADDRESS), "the first view needs no address"


def test_the_address_of_a_picture_holds_both_methods(opened: Opener) -> None:
    tab = opened()
    tab.locator(".card .thumb").nth(1).click()
    for other, words in (("image", "the image"), ("2", tab.evaluate("model().explainers[2].name"))):
        tab.select_option("#viewer-other", other)
        again = reopen(opened(), tab.evaluate(ADDRESS))
        again.wait_for_function("() => document.querySelector('#canvas-other')?.dataset.drawn")
        again.wait_for_function("words => document.querySelector('.side.right').innerText === words", arg=words)
        assert again.evaluate(ADDRESS) == tab.evaluate(ADDRESS)
    tab.keyboard.press("Escape")
    assert "image=" not in tab.evaluate(ADDRESS)


def reopen(tab: Any, address: str) -> Any:
    """The same page as it comes up with this address."""
    tab.evaluate("() => { window.before = true; }")
    tab.evaluate("address => { location.hash = address.split('#')[1]; }", address)  # which loads the page anew
    tab.wait_for_function(
        "() => !window.before && document.readyState === 'complete' && document.querySelector('.card')"
    )
    return tab


def test_a_method_without_a_sign_says_so(opened: Opener) -> None:
    tab = opened()
    image, order = names(tab)[0], shown_methods(tab)
    tab.check('input[value="negative"]', force=True)
    for name, words in (
        ("saliency", "saliency has no sign"),
        ("grad_cam", "grad_cam keeps evidence for the class alone"),
    ):
        place = tab.locator(f'.card[data-image="{image}"] figure').nth(order.index(name) + 1).locator(".thumb")
        place.scroll_into_view_if_needed()
        tab.wait_for_function("one => one.dataset.flaw", arg=place.element_handle())
        assert place.get_attribute("data-flaw").startswith(words)
    tab.check('input[value="positive"]', force=True)
    drawn(tab, thumb(image, order.index("grad_cam") + 1), "positive")
    flawed = tab.locator(f'.card[data-image="{image}"] figure').nth(order.index("saliency") + 1).locator(".thumb")
    tab.wait_for_function("one => (one.dataset.flaw || '').includes('not for or against')", arg=flawed.element_handle())


def test_the_bar_of_the_overlay_is_painted_as_the_overlay(opened: Opener) -> None:
    tab = opened()
    tab.locator("#strength").fill("0.4")
    strip = drawn_strip(tab, '#scale canvas[data-kind="signed"][data-strength="0.4"]')
    bar = heatmaps.paint_overlay_bar(build_colour_map("default", "signed"), (96, 14), 0.4)
    turned = 255 * bar[::-1, ::-1].transpose(1, 0, 2)  # the page's bar lies, from low to high, black below
    assert np.abs(strip.astype(float) - turned).max() <= 12
    tab.click('label:has(input[value="heat"])')
    assert tab.locator("#scale canvas").count() == 0


def drawn_strip(tab: Any, selector: str) -> np.ndarray:
    data = tab.locator(selector).evaluate("c => [c.width, c.height, ...pixels(c, c.width, c.height).data]")
    return np.array(data[2:], np.uint8).reshape(data[1], data[0], 4)[..., :3]


def test_the_picture_can_be_zoomed_and_saved(opened: Opener) -> None:
    tab = opened()
    tab.locator(".card .thumb").nth(1).click()
    tab.wait_for_function("document.querySelector('#canvas-one')?.dataset.drawn === 'overlay'")
    before = tab.locator(".stage").bounding_box()["width"]
    tab.click("#zoom")
    assert tab.locator(".stage").bounding_box()["width"] > before
    with tab.expect_download() as download:
        tab.click("#save")
    picture = np.asarray(Image.open(download.value.path()).convert("RGB"))
    np.testing.assert_array_equal(picture, drawn_strip(tab, "#canvas-one"))
    scale = tab.evaluate("model().images[viewer.image].scales[viewer.one]")
    assert format_value(scale) in tab.inner_text("#viewer-scale")


def test_the_download_holds_the_scores_of_the_files(opened: Opener, made: Path) -> None:
    tab, table = opened(), metrics(made)
    with tab.expect_download() as download:
        tab.click("#csv")
    saved = pd.read_csv(download.value.path())
    assert len(saved) == IMAGES * len(EXPLAINERS)
    for row in saved.itertuples():
        part = table[(table["image"] == row.image) & (table["explainer"] == row.method)].set_index("metric")["value"]
        assert row.deletion == pytest.approx(part["deletion"])


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_to_say(opened: Opener, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra `browser` is not installed")
    tab = opened(width, 844, color_scheme=scheme, bypass_csp=True)
    assert [each["id"] for each in axe.Axe().run(tab).response["violations"]] == []
    small = tab.evaluate(
        """() => [...document.querySelectorAll('button, input, select, summary')].filter((one) => one.offsetParent
        && getComputedStyle(one).opacity !== '0' && one.type !== 'range' && one.getBoundingClientRect().height < 24
        && one.type !== 'checkbox').map((one) => one.outerHTML)"""
    )
    assert small == []
    stops = tab.evaluate("document.querySelectorAll('.card .thumb:not([tabindex=\"-1\"])').length")
    assert stops == tab.locator(".card").count()
