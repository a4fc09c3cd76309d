"""logbook/README.md and the part of the project's README that the pages fill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seewhy.core.errors import UserError
from studies.front import Front, read_front
from studies.render import render

BEGIN, END = "<!-- logbook:begin -->", "<!-- logbook:end -->"
BEST = "study4_timm_survey"
"""The page whose picture the project's README shows."""


def fronts(logbook: Path) -> list[Front]:
    """The fronts of all pages, sorted by name."""
    found = [read_front(page) for page in sorted(logbook.glob("study*.md"))]
    return [front for front in found if front is not None]


def index(logbook: Path) -> str:
    """The text of logbook/README.md."""
    return render("index.md.j2", {"pages": fronts(logbook)})


def in_readme(readme: str, pages: Sequence[Front]) -> str:
    """The README with the text between the two marks made anew. UserError where the marks are missing."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise UserError(f"README.md must hold {BEGIN} and, after it, {END} once")
    best = [page for page in pages if page.study == BEST]
    made = render("readme.md.j2", {"pages": pages, "best": best})
    start, stop = readme.index(BEGIN) + len(BEGIN), readme.index(END)
    return f"{readme[:start]}\n{made.strip()}\n{readme[stop:]}"
