"""Several targets of one image side by side: in one figure, and in the rows of a sheet."""

from __future__ import annotations

from collections.abc import Sequence

from seewhy.core.types import Explanation
from seewhy.core.words import count_noun
from seewhy.plots import heatmaps
from seewhy.plots.canvas import Drawing, Page
from seewhy.plots.explanation import (
    BODY,
    GAP,
    MARGIN,
    SMALL,
    Cell,
    describe_target,
    draw_cells,
    draw_header,
    draw_panel,
    draw_views,
    draw_warnings,
    size_cells,
)
from seewhy.plots.grid import draw_grid, draw_matrix
from seewhy.plots.heatmaps import INK, MUTED
from seewhy.plots.text import wrap

IN_A_ROW = 5
"""Pictures beside each other, at most."""


def draw_targets(
    explanations: Sequence[Explanation],
    colours: str = "default",
    outlier_percent: float = 2.0,
    strength: float = 0.7,
    views: Sequence[str] = (),
) -> Drawing:
    """Draw the image and the maps of all its targets.

    Args:
        explanations: Of one image, one for each target; a single one is drawn as `draw_panel` does.
        colours: default or classic.
        outlier_percent: Share of the attribution mass that saturates the colours, in [0, 100).
        strength: Opacity of the overlay, in [0, 1].
        views: Keys of `seewhy.plots.explanation.VIEWS`; none: heat map and overlay of two targets, the overlay of more.

    Returns:
        The page, at 200 pixels an inch.

    Raises:
        UserError: If an option is out of range or a view is unknown.
    """
    if len(explanations) == 1:
        return draw_panel(explanations[0], colours, outlier_percent, strength, views)
    names = views or (("heat_map", "overlay") if len(explanations) == 2 else ("overlay",))
    cells: list[Cell] = []
    for explanation in explanations:
        scale = heatmaps.compute_scale(explanation.attribution, outlier_percent)
        drawn = draw_views(explanation, scale, colours, strength, names)
        target = describe_target(explanation.target), INK
        cells += drawn[: not cells] + [cell._replace(titles=[target, *cell.titles]) for cell in drawn[1:]]
    size = size_cells(*explanations[0].image.shape[-2:])
    page = Page(2 * MARGIN + min(IN_A_ROW, len(cells)) * (size[1] + GAP) - GAP)
    y = draw_header(page, explanations)
    for start in range(0, len(cells), IN_A_ROW):
        y = draw_cells(page, y, cells[start : start + IN_A_ROW], size, BODY) + GAP / 2
    rule = f"each map has its own colour scale, clipped so that {outlier_percent:g} % of its attribution mass saturates"
    y = page.lines(MARGIN, y, wrap(rule, page.points(page.width - 2 * MARGIN), SMALL), SMALL, MUTED)
    warnings = [f"{each.target.name}: {warning}" for each in explanations for warning in each.warnings]
    return page.finish(draw_warnings(page, y, warnings) + MARGIN * 0.7)


def draw_grid_of_targets(
    explanations: Sequence[Explanation],
    total: int | None = None,
    colours: str = "default",
    outlier_percent: float = 2.0,
    strength: float = 0.7,
) -> Drawing:
    """Draw images below each other and the maps of their targets side by side.

    Args:
        explanations: In the order of the sheet, those of one image together.
        total: Number of explanations of the run where these are only some of them.
        colours: default or classic.
        outlier_percent: Share of the attribution mass that saturates the colours, in [0, 100).
        strength: Opacity of the overlay, in [0, 1].

    Returns:
        The page, at 100 pixels an inch; where labels are explained one by one and they are many, a grid of all.
    """
    columns = list(dict.fromkeys(_name_column(explanation) for explanation in explanations))
    if len(columns) > IN_A_ROW:
        style = {"colours": colours, "outlier_percent": outlier_percent, "strength": strength}
        return draw_grid(explanations, total=total, **style)  # type: ignore[arg-type]
    rows: dict[str, dict[str, Explanation]] = {}
    for explanation in explanations:
        rows.setdefault(explanation.image_name, {})[_name_column(explanation)] = explanation
    first = explanations[0]
    count = f"{'the first ' if (total or 0) > len(explanations) else ''}{count_noun(len(rows), 'image')}"
    title = f"{first.classifier}  \N{MIDDLE DOT}  {first.explainer}  \N{MIDDLE DOT}  {count}"
    matrix = [[row.get(column) for column in columns] for row in rows.values()]
    return draw_matrix(matrix, columns, title, colours, outlier_percent, strength)


def _name_column(explanation: Explanation) -> str:
    """The target as it was written; of labels that are explained one by one the label."""
    policy = explanation.target.policy
    return f"label: {explanation.target.name}" if policy == "labels" else policy
