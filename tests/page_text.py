"""What a report.html holds, read without a browser."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class PageText(HTMLParser):
    """Addresses, scripts, cells with a value and the text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.addresses: list[str] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.styles: list[str] = []
        self.cells: list[dict[str, str]] = []
        self.handlers: list[str] = []
        self.policy = ""
        self.text = ""
        self.inside: list[tuple[str, dict[str, str]]] = []
        self.row: dict[str, str] = {}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.addresses += [
            given[name] for name in ("src", "href", "srcset", "action", "poster", "data") if name in given
        ]
        self.handlers += [name for name in given if name.startswith("on")]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        if tag == "tr":
            self.row = given
        if tag == "td" and "data-value" in given:
            self.cells.append({**self.row, **given})
        if tag in ("script", "style"):
            self.inside.append((tag, given))

    def handle_endtag(self, tag: str) -> None:
        if self.inside and self.inside[-1][0] == tag:
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.text += data
        elif self.inside[-1][0] == "script":
            self.scripts.append((self.inside[-1][1], data))
        else:
            self.styles.append(data)

    def json_of(self, name: str) -> Any:
        (text,) = (text for given, text in self.scripts if given.get("id") == name)
        return json.loads(text)

    @property
    def facts(self) -> Any:
        return self.json_of("facts")

    @property
    def code(self) -> list[str]:
        return [text for given, text in self.scripts if given.get("type") != "application/json"]
