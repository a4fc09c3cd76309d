"""From the content of a page to one file of HTML that asks nobody for anything."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from seewhy.plots.heatmaps import NAMES, Kind, build_colour_map
from seewhy.plots.text import format_probability
from seewhy.report.html.charts import name_line_style
from seewhy.report.html.content import PageContent
from seewhy.report.html.ground_truth import build_certificate_view
from seewhy.report.html.maps import dump_script_json
from seewhy.report.leaderboard import format_value
from seewhy.report.runs import UnusedRun
from seewhy.statistics.recommendation import RULE
from seewhy.statistics.schema import ARROWS
from seewhy.statistics.verdict import LINES

STYLES = ("base.css", "tables.css", "gallery.css", "viewer.css", "print.css")
SCRIPTS = ("data.js", "paint.js", "gallery.js", "viewer.js", "document.js")
KINDS: tuple[Kind, ...] = ("signed", "unsigned", "positive", "negative")
STRENGTH = 0.7
STEERING = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters of names that no page may hold: they turn the direction of what follows, or are no text."""


def render_page(content: PageContent, colours: str = NAMES[0]) -> str:
    """Render the page; its scripts run by their hash alone, so that no name in the data can start one.

    Args:
        content: Of the page.
        colours: default or classic.

    Returns:
        The HTML.
    """
    environment = open_templates()
    script = "\n".join(read_source(environment, name) for name in SCRIPTS)
    page = environment.get_template("page.html").render(
        content=content,
        arrows=ARROWS,
        lines=LINES,
        rule=RULE,
        line_style=name_line_style,
        style=Markup("\n".join(read_source(environment, name) for name in STYLES)),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        facts=dump_script_json(
            {"models": [model.gallery.facts for model in content.models], **build_painting(colours)}
        ),
    )
    return remove_steering(page)


class IndexEntry(NamedTuple):
    """One page of an index.

    Attributes:
        title: Of the page.
        file: Its name beside the index; empty where there is none.
        content: Of the page; None where there is none.
        reason: Why there is no page.
    """

    title: str
    file: str
    content: PageContent | None
    reason: str = ""


def render_index(pages: Sequence[IndexEntry], unused: Sequence[UnusedRun] = ()) -> str:
    """Render the page that joins the pages of runs that cannot be compared.

    Args:
        pages: In the order of the index.
        unused: Runs that take no part.

    Returns:
        The HTML.
    """
    environment = open_templates()
    style = Markup("\n".join(read_source(environment, name) for name in STYLES))
    return remove_steering(environment.get_template("index.html").render(pages=pages, unused=unused, style=style))


def render_certificate(certificate: pd.DataFrame, title: str, command: str = "", facts: Sequence[str] = ()) -> str:
    """Render the page of a certificate, which asks nobody for anything.

    Args:
        certificate: See `seewhy.analyses.ground_truth.certificate.build_certificate`.
        title: Of the page.
        command: That repeats the run.
        facts: Lines about the run.

    Returns:
        The HTML.
    """
    environment = open_templates()
    page = environment.get_template("certificate.html").render(
        title=title,
        command=command,
        facts=facts,
        certificate=build_certificate_view(certificate),
        style=Markup("\n".join(read_source(environment, name) for name in STYLES)),
    )
    return remove_steering(page)


def remove_steering(page: str) -> str:
    """Replace characters that no page may hold.

    Args:
        page: HTML.

    Returns:
        The HTML without characters that turn the direction of text.
    """
    return STEERING.sub("\N{REPLACEMENT CHARACTER}", page)


@functools.cache
def open_templates() -> Environment:
    """Open the templates of the pages, once in a process: to compile them takes longer than to fill them.

    Returns:
        An environment that escapes values and refuses unknown names.
    """
    environment = Environment(loader=PackageLoader("seewhy.report", "page"), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    filters = {"short": _short, "p": _p, "precise": _precise, "percent": _percent, "chance": format_probability}
    environment.filters |= filters
    return environment


def build_painting(colours: str = NAMES[0]) -> dict[str, Any]:
    """Build what the scripts paint with: tables of colour maps as hexadecimal sRGB, and the first strength of overlays."""
    return {"colours": {kind: _table(colours, kind) for kind in KINDS}, "strength": STRENGTH}


def _table(colours: str, kind: Kind) -> str:
    return np.rint(build_colour_map(colours, kind).table * 255).astype(np.uint8).tobytes().hex()


def read_source(environment: Environment, name: str) -> str:
    """Read a file beside the templates.

    Args:
        environment: Of the templates.
        name: Of the file.

    Returns:
        Its text.
    """
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0].strip()


def _short(value: float) -> str:
    return "–" if value is None or math.isnan(value) else format_value(float(value))


def _precise(value: float) -> str:
    """As in the csv files; nothing for no value."""
    return "" if value is None or math.isnan(value) else f"{value:.6g}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
