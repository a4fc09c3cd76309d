"""The pictures of one row of a figure, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from seewhy.colours import INK, MUTED, colour_map
from seewhy.errors import UserError
from seewhy.explanation import Explanation
from seewhy.masking import binary_mask, masked_photograph, point_cloud
from seewhy.views import Cell, Lines, flaw, negative, normalise, original, overlay, positive

USUAL = {True: ("heat_map", "overlay", "positive", "negative"), False: ("heat_map", "overlay")}
"""What is shown of a signed map, and of one that is never negative."""


def cells(
    explanation: Explanation, scale: float, colours: str, strength: float, views: Sequence[str] = ()
) -> list[Cell]:
    """The original and the named views (none: `USUAL`); the original and a message where scale is 0."""
    check_views(views)
    if not scale:
        heading: Lines = [("heat map", INK), ("attribution of each pixel", MUTED)]
        return [original(explanation), Cell(heading, None, flaw(explanation.attribution))]
    chosen = views or USUAL[explanation.signed]
    return [original(explanation), *(VIEWS[name](explanation, scale, colours, strength) for name in chosen)]


def check_views(views: Sequence[str]) -> None:
    """UserError that lists the views where one of `views` is none of them."""
    unknown = [name for name in views if name not in VIEWS]
    if unknown:
        raise UserError(f"callbacks.figures.views has {', '.join(unknown)}; there are: {', '.join(VIEWS)}")


def _heat_map(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    ramp = colour_map(colours, "signed" if explanation.signed else "unsigned")
    painted = ramp.painted(normalise(explanation.attribution, scale, explanation.signed))
    return Cell([("heat map", INK), ("attribution of each pixel", MUTED)], painted)


def _overlay(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    ramp = colour_map(colours, "signed" if explanation.signed else "unsigned")
    normalised = normalise(explanation.attribution, scale, explanation.signed)
    painted = overlay(explanation.image, normalised, ramp, strength)
    return Cell([("overlay", INK), ("stronger colour, larger value", MUTED)], painted)


def _positive(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    return _part("positive", "evidence for the target", positive(explanation.attribution), scale, colours)


def _negative(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    return _part("negative", "evidence against the target", negative(explanation.attribution), scale, colours)


def _part(kind: Literal["positive", "negative"], meaning: str, part: Tensor, scale: float, colours: str) -> Cell:
    titles = [(f"{kind} only", INK), (meaning, MUTED)]
    if not part.any():
        return Cell(titles, None, f"no {kind} values")
    return Cell(titles, colour_map(colours, kind).painted(normalise(part, scale, signed=False)))


def _point_cloud(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    titles = [("point cloud", INK), ("positive values alone", MUTED)]
    cloud = point_cloud(explanation.attribution, scale)
    if not cloud.any():
        return Cell(titles, None, "no positive values")
    return Cell(titles, colour_map(colours, "positive" if explanation.signed else "unsigned").painted(cloud))


def _binary_mask(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    mask = binary_mask(explanation.attribution, scale)
    titles = [("masked image", INK), (f"the {100 * mask.mean():.0f} % with the largest values", MUTED)]
    if not mask.any():
        return Cell(titles, None, "no positive values")
    return Cell(titles, masked_photograph(explanation.image, mask))


VIEWS: dict[str, Callable[[Explanation, float, str, float], Cell]] = {
    "heat_map": _heat_map,
    "overlay": _overlay,
    "positive": _positive,
    "negative": _negative,
    "point_cloud": _point_cloud,
    "binary_mask": _binary_mask,
}
