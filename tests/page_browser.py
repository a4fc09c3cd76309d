"""A browser for the tests of pages; afterwards nothing was requested and nothing was complained about."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = ("--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking").split()
PageOpener = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[PageOpener]:
    """Opens a page, with every filter unfolded."""
    complaints: list[str] = []
    contexts = []

    def go(path: Path, width: int = 1280, height: int = 900, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: complaints.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        address = path.as_uri()
        asked = lambda one: one.url in (address,) or one.url.startswith("data:")  # noqa: E731
        tab.on("request", lambda one: None if asked(one) else complaints.append(f"request: {one.url}"))
        tab.goto(address)
        tab.evaluate("document.getElementById('more')?.setAttribute('open', '')")
        return tab

    yield go
    for context in contexts:
        context.close()
    assert complaints == []
