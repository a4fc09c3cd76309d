"""Explanation -> one figure that says what was explained, how, and what to be careful about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from seewhy.core.types import Explanation
from seewhy.plots import heatmaps
from seewhy.plots.canvas import LEADING, Drawing, Page, join_lines, measure_width, shorten, wrap
from seewhy.plots.colormaps import ALERT_EDGE, ALERT_GROUND, ALERT_INK, MUTED, ColourMap, build_colour_map
from seewhy.plots.heatmaps import draw_views

METHOD, BODY, SMALL = 11.0, 8.5, 7.5
MARGIN, GAP, BAR, BAR_SPACE = 44, 36, 30, 176
MINUS = "\N{MINUS SIGN}"


def draw_panel(
    explanation: Explanation,
    colours: str = "default",
    outlier_percent: float = 2.0,
    strength: float = 0.7,
    views: Sequence[str] = (),
) -> Drawing:
    """Original and the named `views`, in one row.

    None: heat map, overlay and, for signed methods, the positive and the negative part.
    All pictures share the scale of `views.scale`; a map that is zero everywhere or not finite is named, not painted.
    """
    scale = heatmaps.compute_scale(explanation.attribution, outlier_percent)
    row = draw_views(explanation, scale, colours, strength, views)
    height, width = _cell_size(*explanation.image.shape[-2:])
    page = Page(2 * MARGIN + len(row) * (width + GAP) - GAP + (BAR_SPACE if scale else 0))
    y = _header(page, explanation)
    y = _row(page, y, row, height, width)
    if scale:
        _colour_bar(
            page, y - height, height, scale, build_colour_map(colours, "signed" if explanation.signed else "unsigned")
        )
    y = _caption(page, y + GAP / 2, explanation, scale, outlier_percent)
    return page.finish(_warnings(page, y, explanation.warnings) + MARGIN * 0.7)


def _cell_size(rows: int, columns: int) -> tuple[int, int]:
    """(height, width) of a cell in page pixels: the image enlarged by a whole number to about 448, at most 640."""
    longest = max(rows, columns)
    factor: float = max(round(448 / longest), -(-360 // longest))
    factor = min(factor, 640 / longest)
    return round(rows * factor), round(columns * factor)


def _header(page: Page, explanation: Explanation) -> float:
    target, width = explanation.target, page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(explanation.explainer, width, METHOD, True), METHOD, weight="bold")
    y = page.lines(MARGIN, y, wrap(explanation.parameters, width, BODY), BODY, MUTED)
    details = (
        f"target: {target.name} ({target.policy}) p={heatmaps.format_probability(target.probability)}",
        f"classifier: {explanation.classifier}",
        f"image: {explanation.name}",
    )
    for line in join_lines(details, width, BODY):
        y = page.lines(MARGIN, y, wrap(line, width, BODY), BODY)
    return y + GAP / 2


def _row(page: Page, y: float, row: list[heatmaps.Cell], height: int, width: int) -> float:
    room = page.points(width)
    titles = [[(line, ink) for text, ink in cell.titles for line in wrap(text, room, BODY)] for cell in row]
    step = page.pixels(LEADING * BODY)
    top = round(y + step * max(map(len, titles)) + step / 3)
    for number, (cell, lines) in enumerate(zip(row, titles, strict=True)):
        x, start = MARGIN + number * (width + GAP), top - step / 3 - step * len(lines)
        for line, ink in lines:
            start = page.lines(x, start, [line], BODY, ink)
        if cell.colours is not None:
            page.picture(x, top, width, height, cell.colours)
            continue
        page.blank(x, top, width, height, cell.message, BODY)
    return top + height


def _colour_bar(page: Page, top: float, height: int, scale: float, ramp: ColourMap) -> None:
    x = page.width - MARGIN - BAR_SPACE + GAP
    page.picture(x, top, BAR, height, ramp.painted(np.linspace(1, ramp.lowest, height)[:, None]))
    for value in (1.0, 0.5, 0.0, -0.5, -1.0):
        if value >= ramp.lowest:
            y = top + height * (1 - value) / (1 - ramp.lowest)
            page.box(x + BAR, y - 0.5, 6, 1, MUTED)
            page.text(x + BAR + 12, y + page.pixels(0.36 * SMALL), f"{value:g}".replace("-", MINUS), SMALL, MUTED)
    label = f"share of scale (1 = {format_number(scale)})"
    if measure_width(label, SMALL) > page.points(height):
        label = shorten(f"1 = {format_number(scale)}", page.points(height), SMALL)
    page.text_upwards(page.width - MARGIN, top + height / 2, label, SMALL, MUTED)


def format_number(value: float) -> str:
    """Three significant digits with a true minus sign."""
    return f"{value:.3g}".replace("-", MINUS)


def _caption(page: Page, y: float, explanation: Explanation, scale: float, outlier_percent: float) -> float:
    sentences = []
    if scale:
        end = ("±" if explanation.signed else "") + format_number(scale)
        rule = f"which is where the top {outlier_percent:g} % of the attribution mass lies"
        sentences.append(f"colours saturate at {end}, {rule}")
    if "completeness_gap_relative" in explanation.facts:
        facts = explanation.facts
        relative = format_number(100 * facts["completeness_gap_relative"])
        sentences.append(f"completeness gap {relative} % ({format_number(facts['completeness_gap'])} in logits)")
    if "expert" in explanation.facts:
        facts = explanation.facts
        sign = "for" if facts["influence"] > 0 else "against"
        sentences.append(
            f"expert: unit {facts['expert']:.0f}, which speaks {sign} the target "
            f"(influence {format_number(facts['influence'])}, activation {format_number(facts['activation'])})"
        )
    width = page.points(page.width - 2 * MARGIN)
    for line in join_lines(sentences, width, SMALL):
        y = page.lines(MARGIN, y, wrap(line, width, SMALL), SMALL, MUTED)
    return y


def _warnings(page: Page, y: float, warnings: Iterable[str]) -> float:
    """Each warning on a tinted strip with an edge and a sign."""
    indent = 60
    for warning in warnings:
        lines = wrap(warning, page.points(page.width - 2 * MARGIN - indent - 16), BODY)
        height = page.pixels(LEADING * BODY) * len(lines) + 16
        y += 12
        page.box(MARGIN, y, page.width - 2 * MARGIN, height, ALERT_GROUND)
        page.box(MARGIN, y, 8, height, ALERT_EDGE)
        page.lines(MARGIN + 22, y + 8, ["\N{WARNING SIGN}"], BODY, ALERT_INK)
        page.lines(MARGIN + indent, y + 8, lines, BODY, ALERT_INK)
        y += height
    return y
