"""report.html of two models on the same images, in a browser: rows are models, each picture is that of its model."""

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

from seewhy.plots.heatmaps import encode_preview
from seewhy.report.write import write_run_page
from seewhy.statistics.schema import MetricFact
from sweep_folder import edit_record, names, write_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MODELS = {"first_net": "a" * 64, "second_net": "b" * 64}
METHODS = ("random", "grad_cam")
FACTS = {
    "deletion": MetricFact("lower", "AUC", "faithfulness"),
    "sparseness": MetricFact("higher", "Gini", "complexity"),
}
IMAGES = 6
Opener = Callable[..., Any]


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, two methods each; the second model is wrong on image 4."""
    folder = tmp_path_factory.mktemp("paired")
    for number, (model, digest) in enumerate(MODELS.items()):
        for place, method in enumerate(METHODS):
            generator = np.random.default_rng([number, place])
            values = {metric: generator.random(IMAGES) for metric in FACTS}
            facts = {"name": model, "weights": "made", "weights_sha256": digest, "classes": 10}
            run = write_run(folder / f"{model}_{method}", method, values, images=IMAGES, facts=FACTS, model=facts)
            record = {"name": method, "parameters": "", "target": "predicted", "signed": method == "random"}
            edit_record(run, explainer=record)
            table = pd.read_csv(run / "predictions.csv", dtype=str)
            if number:
                table.loc[4, ["predicted", "correct", "target"]] = ["dog", "no", "dog"]
            table.to_csv(run / "predictions.csv", index=False)
            for kind in ("attributions", "images"):
                (run / kind).mkdir()
            for image, name in enumerate(names(IMAGES)):
                np.save(run / "attributions" / f"{name}.npy", generator.random((16, 16)).astype(np.float32))
                photo = torch.full((3, 16, 16), 0.1 + 0.1 * image + 0.05 * number)
                (run / "images" / f"{name}.webp").write_bytes(encode_preview(photo))
    write_run_page(folder)
    return folder


@pytest.fixture
def opened(open_page: Opener, paired: Path) -> Opener:
    return partial(open_page, paired / "report.html")


def test_rows_are_models(opened: Opener, paired: Path) -> None:
    tab = opened()
    for image, name in enumerate(names(IMAGES)):
        card = tab.locator(f'.card[data-image="{name}"]')
        rows = [row.inner_text().split() for row in card.locator(".of-model").all()]
        wrong = ["✗", "dog", "0.90"] if image == 4 else ["✓", "cat", "0.90"]
        assert rows == [["first_net", "✓", "cat", "0.90"], ["second_net", *wrong]]
        assert card.locator(".thumbs").count() == 2
        assert card.locator(".method").all_inner_texts() == ["image", "grad_cam", "random"] * 2
    for at, model in enumerate(MODELS):
        photo = paired / f"{model}_grad_cam" / "images" / "image_0003.webp"
        expected = np.asarray(Image.open(io.BytesIO(photo.read_bytes())))
        canvas = tab.locator('.card[data-image="image_0003"] .thumbs').nth(at).locator("canvas").first
        canvas.scroll_into_view_if_needed()
        tab.wait_for_function("one => one.dataset.drawn === 'original'", arg=canvas.element_handle())
        data = canvas.evaluate("c => [...pixels(c, c.width, c.height).data]")
        np.testing.assert_array_equal(np.array(data).reshape(16, 16, 4)[..., :3], expected)
        scores = pd.read_csv(paired / f"{model}_grad_cam" / "metrics.csv")
        value = scores[(scores["image"] == "image_0003") & (scores["metric"] == "deletion")]["value"].item()
        shown = tab.locator('.card[data-image="image_0003"] .thumbs').nth(at).locator(".score").first
        assert float(shown.get_attribute("data-value")) == value


def test_the_viewer_stays_with_the_model_of_its_picture(opened: Opener) -> None:
    tab = opened()
    tab.locator('.card[data-image="image_0001"] .thumbs').nth(1).locator(".thumb").nth(1).click()
    assert tab.inner_text("#viewer-title .tag") == "second_net"
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate("[there().model, there().images[viewer.image].name]") == ["second_net", "image_0002"]
    address = tab.evaluate("location.href")
    other = opened()
    other.evaluate("address => { location.hash = address.split('#')[1]; location.reload(); }", address)
    other.wait_for_function("() => document.readyState === 'complete' && document.querySelector('#viewer-title')")
    assert other.evaluate("[there().model, there().images[viewer.image].name]") == ["second_net", "image_0002"]
    other.keyboard.press("Escape")
    other.select_option("#model", "1")
    assert other.locator(".card .of-model b").all_inner_texts()[:2] == ["second_net", "first_net"]


def test_cards_of_few_pictures_share_a_line(opened: Opener) -> None:
    for width, beside in ((1400, True), (390, False)):
        tab = opened(width)
        boxes = [card.bounding_box() for card in tab.locator(".card").all()[:2]]
        assert (boxes[0]["y"] == boxes[1]["y"]) == beside
        pictures = tab.locator(".card").first.locator(".thumbs").first.locator(".thumb").all()
        assert len({picture.bounding_box()["y"] for picture in pictures}) == 1


def test_a_changed_image_leads_to_both_maps(opened: Opener) -> None:
    tab = opened()
    table = tab.locator("#models table.models")
    assert table.locator("img, canvas").count() == 0, "the pictures stand in the gallery, once"
    first = table.locator("tbody tr").first
    assert [cell.inner_text() for cell in first.locator("td").all()][-3:-1] == ["✓ cat 0.90", "✗ dog 0.90"]
    first.locator("button").click()
    assert [card.get_attribute("data-image") for card in tab.locator(".card").all()] == ["image_0004"]
    assert tab.locator(".card .of-model b").all_inner_texts() == ["first_net", "second_net"]
    assert tab.locator(".card .method").all_inner_texts() == ["image", "grad_cam", "random"] * 2


def test_the_address_names_the_model(opened: Opener) -> None:
    tab = opened()
    tab.select_option("#model", "1")
    said = lambda one: [each.inner_text() for each in one.locator(".look .said").all()]  # noqa: E731
    assert "dog" in said(tab)[0], "the second model is wrong on an image, which it shows first"
    assert all(words.endswith("on second_net") for words in said(tab))
    other = opened()
    other.evaluate(
        "address => { location.hash = address.split('#')[1]; location.reload(); }", tab.evaluate("location.href")
    )
    other.wait_for_function("() => $('model').value === '1' && document.querySelector('.card')")
    assert other.evaluate("model().model") == "second_net"
    assert said(other) == said(tab)


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_to_say(opened: Opener, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra `browser` is not installed")
    tab = opened(width, 844, color_scheme=scheme, bypass_csp=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert [each["id"] for each in axe.Axe().run(tab).response["violations"]] == []
    tab.locator(".card .thumb").nth(1).click()
    assert [each["id"] for each in axe.Axe().run(tab).response["violations"]] == []
