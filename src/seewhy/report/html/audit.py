"""The page of an audit: what is proven, with its figures, and what only looked odd."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from seewhy.analyses.audit.report import UNPROVABLE, Content
from seewhy.report.html.maps import build_data_url, compress_figure
from seewhy.report.html.render import STYLES, open_templates, read_source, remove_steering

SHOWN = {
    "number": "",
    "verdict": "verdict",
    "class": "class",
    "kind": "kind",
    "images": "images",
    "share": "share of the class",
    "rise": "inserted",
    "fall": "removed",
    "follow": "others that follow",
    "accuracy_with": "accuracy",
    "accuracy_without": "without it",
    "outside_object": "outside of the object",
    "p_holm": "p (Holm)",
    "reason": "why not",
}
"""Columns of audit.csv on the page, with their headings."""
TEXTS = ("number", "verdict", "class", "kind", "reason")
EXACT = (*TEXTS, "images", "p_holm")
"""Columns whose cells are those of audit.csv."""


def render_audit(content: Content, title: str, command: str = "", facts: Sequence[str] = ()) -> str:
    """Render the page of an audit, which asks nobody for anything.

    Args:
        content: What it shows.
        title: Of the page.
        command: That repeats the run.
        facts: Lines about the run.

    Returns:
        The HTML.
    """
    environment = open_templates()
    rows = [[(_write_cell(row, key), key in TEXTS) for key in SHOWN] for row in content.rows]
    page = environment.get_template("audit.html").render(
        title=title,
        command=command,
        facts=facts,
        sentences=content.sentences,
        headings=[(heading, key in TEXTS) for key, heading in SHOWN.items()],
        proven=[row for row in rows if row[1][0] == "shortcut"],
        same=[row for row in rows if row[1][0].startswith("same as")],
        rest=[row for row in rows if row[1][0] == "no effect"],
        unprovable=[row for row in rows if row[1][0] == UNPROVABLE],
        figures=[(number, build_data_url(compress_figure(png))) for number, png in content.figures.items()],
        style=Markup("\n".join(read_source(environment, name) for name in STYLES)),
    )
    return remove_steering(page)


def _write_cell(row: dict[str, object], key: str) -> str:
    """A cell, with its interval where it has one; shares and probabilities with two decimals, p as it is."""
    value, low, high = (str(row.get(name, "")) for name in (key, f"{key}_low", f"{key}_high"))
    if key in EXACT or not value:
        return value
    text = f"{float(value):.2f}"
    return f"{text} [{float(low):.2f}, {float(high):.2f}]" if low else text
