"""Strips of a class's image on its way, and the score curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from seewhy.colours import INK, MUTED
from seewhy.drawing import Drawing
from seewhy.figures import number
from seewhy.page import joined, wrap
from seewhy.synthesis.picture_row import GAP, MARGIN, enlarged, page_of, picture_row
from seewhy.synthesis.visualization import Frame, Visualization
from seewhy.views import Cell, photograph, share

HEADING, BODY, SMALL = 11.0, 8.5, 7.5


def strips(shown: Sequence[Visualization], parameters: str, classifier: str) -> Drawing:
    """One row of frames for each class, at 1, 25, 50, 75 and 100 % of the steps."""
    side = enlarged(shown[0].frames[0].pixels.shape[-1], 256)
    page = page_of(len(shown[0].strip), side)
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap("class visualization", room, HEADING, True), HEADING, weight="bold")
    for line in joined([f"classifier: {classifier}", parameters], room, SMALL):
        y = page.lines(MARGIN, y, wrap(line, room, SMALL), SMALL, MUTED)
    for made in shown:
        y = page.lines(MARGIN, y + GAP / 2, wrap(made.name, room, BODY, True), BODY, weight="bold")
        steps = made.frames[-1].step
        y = picture_row(page, y, [_cell(frame, steps) for frame in made.strip], (side, side), SMALL)
    return page.finish(y + MARGIN * 0.7)


def _cell(frame: Frame, steps: int) -> Cell:
    said = f"score {number(frame.score)}, p {share(frame.probability)}"
    return Cell([(f"step {frame.step} of {steps}", INK), (said, MUTED)], photograph(frame.pixels / 255))


def score_curves(shown: Sequence[Visualization]) -> Figure:
    """The logit of each class for its own image, as saved, after every kept step."""
    figure = Figure(figsize=(6.4, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    for made in shown:
        axes.plot([frame.step for frame in made.frames], [frame.score for frame in made.frames], label=_label(made))
    axes.set(xlabel="step", ylabel="score of the class (logit)", title="score of the image as it is, unmoved")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _label(made: Visualization) -> str:
    return (made.name if len(made.name) <= 24 else made.name[:23] + "…").replace("$", r"\$")
