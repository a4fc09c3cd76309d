"""The pictures of a figure by name: the image, and views of its attribution map under their titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Explanation, Prediction
from seewhy.plots.colormaps import INK, MUTED, RIGHT, WRONG, ColourMap, Colours, build_colour_map
from seewhy.plots.heatmaps import (
    apply_mask,
    blend_overlay,
    clip_negative,
    clip_positive,
    compute_mask,
    compute_point_cloud,
    describe_flaw,
    normalise,
    to_rgb,
)
from seewhy.plots.text import format_probability

Lines: TypeAlias = list[tuple[str, str]]
"""Lines of (text, colour)."""
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
        heading: Lines = [("heat map", INK), ("attribution of each pixel", MUTED)]
        return [draw_original(explanation), Cell(heading, None, describe_flaw(explanation.attribution))]
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
    words = f"predicted: {prediction.name} {format_probability(prediction.probability)}"
    titles = [(words, INK), describe_verdict(prediction)]
    return Cell([title for title in titles if title[0]], to_rgb(explanation.image))


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
    return Cell([("heat map", INK), ("attribution of each pixel", MUTED)], colour_map.paint(normalised))


def _draw_overlay(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    blended = blend_overlay(explanation.image, *normalise_map(explanation, scale, colours), strength)
    return Cell([("overlay", INK), ("stronger colour, larger value", MUTED)], blended)


def _draw_positive(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    values = clip_positive(explanation.attribution)
    return _draw_sign("positive", "evidence for the target", values, scale, colours)


def _draw_negative(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    values = clip_negative(explanation.attribution)
    return _draw_sign("negative", "evidence against the target", values, scale, colours)


def _draw_sign(sign: Literal["positive", "negative"], meaning: str, values: Tensor, scale: float, colours: str) -> Cell:
    titles = [(f"{sign} only", INK), (meaning, MUTED)]
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
    return Cell(titles, apply_mask(explanation.image, mask))


VIEWS: dict[str, Callable[[Explanation, float, str, float], Cell]] = {
    "heat_map": _draw_heat_map,
    "overlay": _draw_overlay,
    "positive": _draw_positive,
    "negative": _draw_negative,
    "point_cloud": _draw_point_cloud,
    "binary_mask": _draw_mask,
}
