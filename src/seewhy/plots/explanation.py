"""The figure of one explanation: its panels by name, what was explained, how, and what to be careful about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Explanation, Prediction, Target
from seewhy.plots import heatmaps
from seewhy.plots.canvas import Drawing, Page
from seewhy.plots.heatmaps import (
    ALERT_EDGE,
    ALERT_GROUND,
    ALERT_INK,
    INK,
    MUTED,
    RIGHT,
    WRONG,
    ColourMap,
    Colours,
    average_fine_map,
    blend_overlay,
    build_colour_map,
    choose_block,
    clip_negative,
    clip_positive,
    describe_flaw,
    normalise,
    paint_overlay_bar,
    to_rgb,
)
from seewhy.plots.masks import apply_mask, compute_mask, compute_point_cloud, find_sufficient_region, outline_region
from seewhy.plots.text import LEADING, MINUS, format_number, format_probability, join_lines, measure_width, wrap

Lines: TypeAlias = list[tuple[str, str]]  # (text, colour)
HEAT_MAP: Lines = [("heat map", INK), ("normalised attribution", MUTED)]
MARKS = {True: "\N{CHECK MARK} ", False: "\N{BALLOT X} ", None: ""}
DEFAULT_VIEWS = {True: ("heat_map", "overlay", "positive", "negative"), False: ("heat_map", "overlay")}
"""The views of a signed map, and of one that is never negative."""


def describe_verdict(prediction: Prediction) -> tuple[str, str]:
    """Name the true class, marked right or wrong.

    Args:
        prediction: Of one image.

    Returns:
        (words, colour); no words where the true class is unknown.
    """
    if not prediction.label:
        return "", MUTED
    colour = {True: RIGHT, False: WRONG, None: MUTED}[prediction.correct]
    return f"{MARKS[prediction.correct]}true: {prediction.label}", colour


class Cell(NamedTuple):
    """One picture of a row under its titles.

    Attributes:
        titles: Lines of (text, colour).
        colours: RGB [height, width, 3]; None where there is nothing to draw.
        message: Stands instead of a picture that cannot be drawn.
    """

    titles: Lines
    colours: Colours | None
    message: str = ""


def draw_views(
    explanation: Explanation, scale: float, colours: str, strength: float, views: Sequence[str] = ()
) -> list[Cell]:
    """Draw the image and the named views of its map.

    Args:
        explanation: Image and map.
        scale: Of `compute_scale`; 0: the image and why its map cannot be drawn.
        colours: default or classic.
        strength: Of the overlay, in [0, 1].
        views: Keys of `VIEWS`; none: `DEFAULT_VIEWS`.

    Returns:
        The image first.

    Raises:
        UserError: If a view is unknown.
    """
    check_views(views)
    if not scale:
        return [draw_original(explanation), Cell(HEAT_MAP, None, describe_flaw(explanation.attribution))]
    names = views or DEFAULT_VIEWS[explanation.signed]
    return [draw_original(explanation), *(VIEWS[name](explanation, scale, colours, strength) for name in names)]


def check_views(views: Sequence[str]) -> None:
    """Refuse unknown views.

    Args:
        views: Names.

    Raises:
        UserError: If one of them is not a key of `VIEWS`.
    """
    unknown = [name for name in views if name not in VIEWS]
    if unknown:
        raise UserError(f"callbacks.figures.views has {', '.join(unknown)}; there are: {', '.join(VIEWS)}")


def draw_original(explanation: Explanation) -> Cell:
    """Return the image under what the classifier says of it."""
    prediction = explanation.prediction
    words = describe_prediction(prediction)
    titles = [(words, INK), describe_verdict(prediction), (describe_display(explanation), MUTED)]
    return Cell([title for title in titles if title[0]], to_rgb(explanation.picture))


def describe_prediction(prediction: Prediction) -> str:
    """Describe what a network says of an image.

    Args:
        prediction: Of the image.

    Returns:
        The class with its probability, every predicted label with its own, or the largest output where there are none.
    """
    if prediction.labels is not None:
        return f"predicted: {', '.join(list_predicted(prediction))}"
    if prediction.probability != prediction.probability:
        return f"largest output: {prediction.name} ({format_number(prediction.top[0][1])})"
    return f"predicted: {prediction.name} {format_probability(prediction.probability)}"


def list_predicted(prediction: Prediction) -> list[str]:
    """List the predicted labels with their probabilities; those beyond the likeliest five without.

    Args:
        prediction: Of an image that may have several labels.

    Returns:
        The labels; where none is predicted, the likeliest with its probability.
    """
    if not prediction.labels:
        name, probability = prediction.top[0]
        return [f"{prediction.name} (likeliest: {name} {format_probability(probability)})"]
    probabilities = dict(prediction.top)
    return [
        f"{name} {format_probability(probabilities[name])}" if name in probabilities else name
        for name in prediction.labels
    ]


def describe_display(explanation: Explanation) -> str:
    """Describe which channels of an image are shown.

    Args:
        explanation: Whose image it is.

    Returns:
        A phrase such as `channels 4, 3, 2 of 13`; empty for RGB and for a single channel.
    """
    channels, display = len(explanation.image), explanation.display
    if channels == 1 or (channels == 3 and not display):
        return ""
    shown = display or ((1, 2, 3) if channels > 2 else (1,))
    return f"channel{'s' if len(shown) > 1 else ''} {', '.join(map(str, shown))} of {channels}"


def normalise_map(explanation: Explanation, scale: float, colours: str) -> tuple[NDArray[np.float32], ColourMap]:
    """Return the normalised map of an explanation and the colours of its values.

    Args:
        explanation: Whose map it is.
        scale: Of `compute_scale`.
        colours: default or classic.

    Returns:
        (float32 [height, width], colour map).
    """
    colour_map = build_colour_map(colours, "signed" if explanation.signed else "unsigned")
    return normalise(explanation.attribution, scale, explanation.signed), colour_map


def _draw_heat_map(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    normalised, colour_map = normalise_map(explanation, scale, colours)
    return Cell(HEAT_MAP, colour_map.paint(normalised))


def _draw_overlay(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    normalised, colour_map = normalise_map(explanation, scale, colours)
    coarse = (block := choose_block(normalised)) > 1
    words = "opacity shows magnitude" + (f", averaged over {block} x {block} pixels" if coarse else "")
    blended = blend_overlay(explanation.picture, average_fine_map(normalised), colour_map, strength)
    if (region := find_sufficient_region(explanation)) is not None:
        blended = outline_region(blended, region)
        words += f"; outline: the top {100 * region.mean():.3g} % keep the prediction"
    return Cell([("overlay", INK), (words, MUTED)], blended)


def _draw_positive(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    return _draw_sign(explanation, "positive", clip_positive(explanation.attribution), scale, colours)


def _draw_negative(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    return _draw_sign(explanation, "negative", clip_negative(explanation.attribution), scale, colours)


def _draw_sign(
    explanation: Explanation, sign: Literal["positive", "negative"], values: Tensor, scale: float, colours: str
) -> Cell:
    if not explanation.signed:
        titles = [(f"{sign} only", INK), ("values are never negative", MUTED)]
        return Cell(titles, None, "this method has no sign: see the heat map")
    titles = [(f"{sign} only", INK), (f"evidence {'for' if sign == 'positive' else 'against'} the target", MUTED)]
    if not values.any():
        return Cell(titles, None, f"no {sign} values")
    return Cell(titles, build_colour_map(colours, sign).paint(normalise(values, scale, signed=False)))


def _draw_point_cloud(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    titles = [("point cloud", INK), ("positive values alone", MUTED)]
    cloud = compute_point_cloud(explanation.attribution, scale)
    if not cloud.any():
        return Cell(titles, None, "no positive values")
    return Cell(titles, build_colour_map(colours, "positive" if explanation.signed else "unsigned").paint(cloud))


def _draw_mask(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    mask = compute_mask(explanation.attribution, scale)
    titles = [("masked image", INK), (f"the {100 * mask.mean():.0f} % with the largest values", MUTED)]
    if not mask.any():
        return Cell(titles, None, "no positive values")
    return Cell(titles, apply_mask(explanation.picture, mask))


VIEWS: dict[str, Callable[[Explanation, float, str, float], Cell]] = {
    "heat_map": _draw_heat_map,
    "overlay": _draw_overlay,
    "positive": _draw_positive,
    "negative": _draw_negative,
    "point_cloud": _draw_point_cloud,
    "binary_mask": _draw_mask,
}


METHOD, BODY, SMALL = 11.0, 8.5, 7.5
MARGIN, GAP, BAR, BAR_SPACE = 44, 36, 30, 176


def draw_panel(
    explanation: Explanation,
    colours: str = "default",
    outlier_percent: float = 2.0,
    strength: float = 0.7,
    views: Sequence[str] = (),
) -> Drawing:
    """Draw the image and views of its map in one row under what was explained.

    All pictures share one scale, that of `compute_scale`; a map that is zero everywhere or not finite is named, not
    painted.

    Args:
        explanation: Image, prediction and map.
        colours: default or classic.
        outlier_percent: Share of the attribution mass that saturates the colours, in [0, 100).
        strength: Opacity of the overlay, in [0, 1].
        views: Keys of `seewhy.plots.explanation.VIEWS`; none: heat map, overlay and, of a signed map, both signs.

    Returns:
        The page, at 200 pixels an inch.

    Raises:
        UserError: If an option is out of range or a view is unknown.
    """
    scale = heatmaps.compute_scale(explanation.attribution, outlier_percent)
    cells = draw_views(explanation, scale, colours, strength, views)
    height, width = size_cells(*explanation.image.shape[-2:])
    layers = not scale or "overlay" in (views or DEFAULT_VIEWS[explanation.signed])
    bars = (BAR_SPACE + (BAR_SPACE + BAR if layers else 0)) if scale else 0
    page = Page(2 * MARGIN + len(cells) * (width + GAP) - GAP + bars)
    y = draw_cells(page, draw_header(page, [explanation]), cells, (height, width), BODY)
    unwritten: list[str] = []
    if scale:
        ramp = normalise_map(explanation, scale, colours)[1]
        left = page.width - MARGIN - bars + GAP
        bar = ramp.paint(np.linspace(1, ramp.lowest, height)[:, None].repeat(BAR, axis=1))
        end = f"attribution (1 = {format_number(scale)})"
        unwritten += _draw_colour_bar(page, left, y - height, bar, ramp.lowest, (f"normalised {end}", end))
        if layers:
            blended = paint_overlay_bar(ramp, (height, 2 * BAR), strength)
            labels = "overlay, on black to white", "overlay"
            unwritten += _draw_colour_bar(page, left + BAR_SPACE, y - height, blended, ramp.lowest, labels)
    y = _draw_caption(page, y + GAP / 2, explanation, scale, outlier_percent, unwritten)
    return page.finish(draw_warnings(page, y, explanation.warnings) + MARGIN * 0.7)


def draw_cells(page: Page, y: float, cells: Sequence[Cell], size: tuple[int, int], type_size: float) -> float:
    """Draw titled pictures side by side, their titles ending at one height.

    Args:
        page: The page.
        y: Top of the titles in pixels.
        cells: From left to right.
        size: (height, width) of each picture in pixels of the page.
        type_size: Size of the titles in points.

    Returns:
        The y below the pictures.
    """
    height, width = size
    room, step = page.points(width), page.pixels(LEADING * type_size)
    titles = [[(line, ink) for text, ink in cell.titles for line in wrap(text, room, type_size)] for cell in cells]
    top = round(y + step * max(map(len, titles), default=0) + step / 3)
    for number, (cell, lines) in enumerate(zip(cells, titles, strict=True)):
        x, start = MARGIN + number * (width + GAP), top - step / 3 - step * len(lines)
        for line, ink in lines:
            start = page.lines(x, start, [line], type_size, ink)
        if cell.colours is None:
            page.blank(x, top, width, height, cell.message, type_size)
        else:
            page.picture(x, top, width, height, cell.colours)
    return top + height


def size_cells(rows: int, columns: int) -> tuple[int, int]:
    """Choose the size of a picture on a page: enlarged by a whole number to about 448 pixels, at most 640.

    Args:
        rows: Height of the image in pixels.
        columns: Its width.

    Returns:
        (height, width) in pixels of the page.
    """
    longest = max(rows, columns)
    factor: float = max(round(448 / longest), -(-360 // longest))
    factor = min(factor, 640 / longest)
    return round(rows * factor), round(columns * factor)


def draw_header(page: Page, explanations: Sequence[Explanation]) -> float:
    """Draw what was explained and how.

    Args:
        page: The page.
        explanations: Of one image, one for each target.

    Returns:
        The y below the header.
    """
    explanation, width = explanations[0], page.points(page.width - 2 * MARGIN)
    targets = [describe_target(each.target) for each in explanations]
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(explanation.explainer, width, METHOD, True), METHOD, weight="bold")
    y = page.lines(MARGIN, y, wrap(explanation.parameters, width, BODY), BODY, MUTED)
    details = (
        f"target: {targets[0]}" if len(targets) == 1 else f"{len(targets)} targets",
        f"classifier: {explanation.classifier}",
        f"image: {explanation.image_name}",
    )
    for line in join_lines(details, width, BODY):
        y = page.lines(MARGIN, y, wrap(line, width, BODY), BODY)
    return y + GAP / 2


def describe_target(target: Target) -> str:
    """Describe what is explained.

    Args:
        target: Of one map.

    Returns:
        The class or contrast, how it was chosen, and its probability where it has one.
    """
    words = target.name if target.name == target.policy else f"{target.name} ({target.policy})"
    has_one = target.probability == target.probability
    return f"{words} p={format_probability(target.probability)}" if has_one else words


def _draw_colour_bar(page: Page, x: float, top: float, bar: Colours, lowest: int, labels: tuple[str, str]) -> list[str]:
    """A bar with its values and the first label that fits beside it; returns labels that the caption must hold instead."""
    height, width = bar.shape[:2]
    halves = 0.5 * height / (1 - lowest) >= page.pixels(SMALL)
    page.picture(x, top, width, height, bar)
    for value in (1.0, 0.5, 0.0, -0.5, -1.0):
        if value >= lowest and (halves or value % 1 == 0) and (value or lowest == 0 or height > 3 * page.pixels(SMALL)):
            y = top + height * (1 - value) / (1 - lowest)
            page.box(x + width, y - 0.5, 6, 1, MUTED)
            page.text(x + width + 12, y + page.pixels(0.36 * SMALL), f"{value:g}".replace("-", MINUS), SMALL, MUTED)
    fitting = [label for label in labels if measure_width(label, SMALL) <= page.points(height)]
    if fitting:
        page.text_upwards(x + width - BAR + BAR_SPACE - GAP, top + height / 2, fitting[0], SMALL, MUTED)
    return [] if fitting[:1] == [labels[0]] else [labels[0]]


def _draw_caption(
    page: Page, y: float, explanation: Explanation, scale: float, outlier_percent: float, unwritten: Sequence[str]
) -> float:
    sentences = [f"colour bars: {', '.join(unwritten)}"] if unwritten else []
    if scale:
        end = ("±" if explanation.signed else "") + format_number(scale)
        sentences.append(
            f"colour scale clipped at {end}, so that {outlier_percent:g} % of the attribution mass saturates"
        )
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


def draw_warnings(page: Page, y: float, warnings: Iterable[str]) -> float:
    """Draw each warning on a tinted strip with an edge and a sign.

    Args:
        page: The page.
        y: Top of the first one in pixels.
        warnings: Sentences.

    Returns:
        The y below the last one.
    """
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
