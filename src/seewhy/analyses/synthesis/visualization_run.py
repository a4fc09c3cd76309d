"""A climb as a moving picture.

Strips of a class's image on its way, and the score curves.
Every class: climbed, saved, drawn, animated and tabulated.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from seewhy.analyses.synthesis.base import Output, picture, png_of, progress
from seewhy.analyses.synthesis.class_visualization import ClassVisualization, Frame, Visualization
from seewhy.analyses.synthesis.summary import enlarged, page_of, visualization_table
from seewhy.core.errors import UserError
from seewhy.core.targets import POLICIES, check_policy
from seewhy.data.names import name_images
from seewhy.models.classifier import Classifier
from seewhy.plots.canvas import Drawing, encode_figure
from seewhy.plots.colormaps import INK, MUTED
from seewhy.plots.explanation import GAP, MARGIN, draw_cells
from seewhy.plots.heatmaps import to_rgb
from seewhy.plots.text import format_number, format_probability, join_lines, wrap
from seewhy.plots.views import Cell
from seewhy.runs.console import describe_work

MILLISECONDS, LAST = 80, 2000
"""How long a frame is shown, and the last one."""


def webp_of(frames: Sequence[Frame], quality: int = 80) -> bytes:
    """An animated WebP that repeats for ever; the last frame stays for two seconds."""
    pictures = [picture(frame.pixels) for frame in frames]
    durations = [MILLISECONDS] * (len(pictures) - 1) + [LAST]
    content = io.BytesIO()
    options = {"quality": quality, "method": 2, "loop": 0, "duration": durations}
    pictures[0].save(content, format="WEBP", save_all=True, append_images=pictures[1:], **options)
    return content.getvalue()


HEADING, BODY, SMALL = 11.0, 8.5, 7.5


def strips(shown: Sequence[Visualization], parameters: str, classifier: str) -> Drawing:
    """One row of frames for each class, at 1, 25, 50, 75 and 100 % of the steps."""
    side = enlarged(shown[0].frames[0].pixels.shape[-1], 256)
    page = page_of(len(shown[0].strip), side)
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap("class visualization", room, HEADING, True), HEADING, weight="bold")
    for line in join_lines([f"classifier: {classifier}", parameters], room, SMALL):
        y = page.lines(MARGIN, y, wrap(line, room, SMALL), SMALL, MUTED)
    for made in shown:
        y = page.lines(MARGIN, y + GAP / 2, wrap(made.name, room, BODY, True), BODY, weight="bold")
        steps = made.frames[-1].step
        y = draw_cells(page, y, [_cell(frame, steps) for frame in made.strip], (side, side), SMALL)
    return page.finish(y + MARGIN * 0.7)


def _cell(frame: Frame, steps: int) -> Cell:
    said = f"score {format_number(frame.score)}, p {format_probability(frame.probability)}"
    return Cell([(f"step {frame.step} of {steps}", INK), (said, MUTED)], to_rgb(frame.pixels / 255))


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


AT_ONCE = 16
"""Classes whose frames are held in memory together."""
COLUMNS = ("class", "index", "seed", "step", "score", "probability")


def class_indices(classes: Sequence[str | int] | None, known: Sequence[str]) -> list[int]:
    """Indices of the classes, each once, in the given order; None means the first ten."""
    if classes is None:
        return list(range(min(10, len(known))))
    found = []
    for one in classes:
        if one in POLICIES:
            raise UserError(f"synthesis.classes={list(classes)}: {one!r} is not a class; give names or indices")
        index = check_policy(one, known)
        assert index is not None
        found.append(index)
    return list(dict.fromkeys(found))


def visualize_all(synthesis: ClassVisualization, classifier: Classifier, output: Output) -> dict[str, Any]:
    """images/, animations/, figures/, sheet.png, scores.png and synthesis.csv."""
    indices = class_indices(synthesis.classes, classifier.facts.classes)
    console = Console(highlight=False)
    console.print(describe_work(classifier), soft_wrap=True)
    groups = [indices[start : start + AT_ONCE] for start in range(0, len(indices), AT_ONCE)]
    rows: list[dict[str, Any]] = []
    last: list[Visualization] = []
    about = _words(synthesis), f"{classifier.name} ({classifier.origin})"
    try:
        with progress(console) as bar:
            task = bar.add_task("class visualization", total=synthesis.recipe.steps * len(indices))
            for group in groups:
                made = synthesis.visualize(classifier, group, partial(bar.advance, task, len(group)))
                for one in made:
                    rows += _write(one, synthesis.seed, about, output)
                last += [dataclasses.replace(one, frames=one.frames if len(last) < AT_ONCE else []) for one in made]
    finally:
        output.table("synthesis.csv", COLUMNS, rows)
        shown = [one for one in last if one.frames]
        if shown:
            output.figure("sheet.png", encode_figure(strips(shown, *about)))
            output.figure("scores.png", encode_figure(score_curves(shown)))
            console.print(visualization_table(shown, len(last)))
    return {"classes": len(indices)}


def _write(made: Visualization, seed: int, about: tuple[str, str], output: Output) -> list[dict[str, Any]]:
    """The files of one class; its rows of synthesis.csv."""
    name = f"{made.index:03d}_{name_images([Path(made.name.replace('/', ' '))], Path())[0]}"
    output.file(f"images/{name}.png", png_of(made.frames[-1].pixels))
    output.file(f"animations/{name}.webp", webp_of(made.frames))
    output.figure(f"figures/{name}.png", encode_figure(strips([made], *about)))
    rows = []
    for frame in made.frames:
        output.number(f"score/{name}", frame.score, frame.step)
        numbers = {"score": f"{frame.score:.6g}", "probability": f"{frame.probability:.6g}"}
        rows.append({"class": made.name, "index": made.index, "seed": seed, "step": frame.step, **numbers})
    return rows


def _words(synthesis: ClassVisualization) -> str:
    recipe = dataclasses.asdict(synthesis.recipe)
    unused = ("blur", "blur_every") if recipe["parametrization"] == "fourier" else ("decay", "contrast", "saturation")
    shown = {"variant": synthesis.variant, "seed": synthesis.seed} | {
        k: v for k, v in recipe.items() if k not in unused
    }
    return ", ".join(f"{key}={value}" for key, value in shown.items())
