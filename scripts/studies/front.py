"""The first line of a page: a comment with what the index and the project's README say of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from seewhy.core.errors import UserError

MARK = "<!-- logbook "


@dataclass(frozen=True)
class Front:
    """One page in the index."""

    study: str
    title: str
    finding: str
    """One sentence with its numbers."""
    thumbnail: str
    """A picture, relative to the logbook."""
    ran: list[str]
    not_run: list[str]
    seconds: float
    date: str

    def line(self) -> str:
        """As a comment of one line."""
        return f"{MARK}{json.dumps(asdict(self), ensure_ascii=True)} -->"


def read_front(page: Path) -> Front | None:
    """The front of a page; None where there is no page. UserError where its first line is not one."""
    if not page.is_file():
        return None
    first = page.read_text().split("\n", 1)[0]
    if not (first.startswith(MARK) and first.endswith(" -->")):
        raise UserError(f"{page} does not start with {MARK.strip()}; it was not written by make logbook")
    return Front(**json.loads(first.removeprefix(MARK).removesuffix(" -->")))
