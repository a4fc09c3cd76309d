"""Visualize every class: climb, save, draw, animate and tabulate."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from seewhy.analyses.synthesis.base import Output, build_progress_bar, encode_image, to_picture
from seewhy.analyses.synthesis.class_visualization import ClassVisualization, Frame, Visualization
from seewhy.analyses.synthesis.summary import build_visualization_table, create_page, enlarge_to
from seewhy.core.errors import UserError
from seewhy.core.facts import select_display
from seewhy.core.targets import POLICIES, check_policy
from seewhy.data.names import name_images
from seewhy.models.classifier import Classifier
from seewhy.plots.canvas import Drawing, encode_figure
from seewhy.plots.explanation import GAP, MARGIN, Cell, draw_cells
from seewhy.plots.heatmaps import INK, MUTED, to_rgb
from seewhy.plots.text import format_number, format_probability, join_lines, wrap
from seewhy.runs.console import TextConsole, describe_work

MILLISECONDS, LAST = 80, 2000
"""How long a frame is shown, and the last one."""


def encode_webp(frames: Sequence[Frame], quality: int = 80, display: Sequence[int] = ()) -> bytes:
    """An animated WebP that repeats for ever; the last frame stays for two seconds."""
    pictures = [to_picture(select_display(frame.pixels, display)) for frame in frames]
    durations = [MILLISECONDS] * (len(pictures) - 1) + [LAST]
    content = io.BytesIO()
    options = {"quality": quality, "method": 2, "loop": 0, "duration": durations}
    pictures[0].save(content, format="WEBP", save_all=True, append_images=pictures[1:], **options)
    return content.getvalue()


HEADING, BODY, SMALL = 11.0, 8.5, 7.5


def draw_strips(results: Sequence[Visualization], parameters: str, classifier: str) -> Drawing:
    """One row of frames for each class, at 1, 25, 50, 75 and 100 % of the steps."""
    height, width = results[0].frames[0].pixels.shape[-2:]
    side = enlarge_to(height, width, 256)
    page = create_page(len(results[0].strip), side[1])
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap("class visualization", room, HEADING, True), HEADING, weight="bold")
    for line in join_lines([f"classifier: {classifier}", parameters], room, SMALL):
        y = page.lines(MARGIN, y, wrap(line, room, SMALL), SMALL, MUTED)
    for result in results:
        y = page.lines(MARGIN, y + GAP / 2, wrap(result.name, room, BODY, True), BODY, weight="bold")
        steps = result.frames[-1].step
        y = draw_cells(page, y, [_cell(frame, steps, result.display) for frame in result.strip], side, SMALL)
    return page.finish(y + MARGIN * 0.7)


def _cell(frame: Frame, steps: int, display: Sequence[int]) -> Cell:
    caption = f"score {format_number(frame.score)}"
    caption += f", p {format_probability(frame.probability)}" if frame.probability == frame.probability else ""
    return Cell(
        [(f"step {frame.step} of {steps}", INK), (caption, MUTED)], to_rgb(select_display(frame.pixels, display) / 255)
    )


def draw_score_curves(results: Sequence[Visualization]) -> Figure:
    """The logit of each class for its own image, as saved, after every kept step."""
    figure = Figure(figsize=(6.4, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    for result in results:
        axes.plot(
            [frame.step for frame in result.frames], [frame.score for frame in result.frames], label=_label(result)
        )
    axes.set(xlabel="step", ylabel="score of the class (logit)", title="score of the image as it is, unmoved")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _label(result: Visualization) -> str:
    return (result.name if len(result.name) <= 24 else result.name[:23] + "…").replace("$", r"\$")


AT_ONCE = 16
"""Classes whose frames are held in memory together."""
COLUMNS = ("class", "index", "seed", "step", "score", "probability")


def resolve_class_indices(classes: Sequence[str | int] | None, names: Sequence[str]) -> list[int]:
    """Indices of the classes, each once, in the given order; None means the first ten."""
    if classes is None:
        return list(range(min(10, len(names))))
    indices = []
    for name in classes:
        if name in POLICIES:
            raise UserError(f"synthesis.classes={list(classes)}: {name!r} is not a class; give names or indices")
        index = check_policy(name, names)
        assert index is not None
        indices.append(index)
    return list(dict.fromkeys(indices))


def visualize_classes(synthesis: ClassVisualization, classifier: Classifier, output: Output) -> dict[str, Any]:
    """images/, animations/, figures/, sheet.png, scores.png and synthesis.csv."""
    indices = resolve_class_indices(synthesis.classes, classifier.facts.classes)
    console = TextConsole()
    console.print(describe_work(classifier), soft_wrap=True)
    groups = [indices[start : start + AT_ONCE] for start in range(0, len(indices), AT_ONCE)]
    rows: list[dict[str, Any]] = []
    last: list[Visualization] = []
    captions = _words(synthesis), f"{classifier.name} ({classifier.origin})"
    try:
        with build_progress_bar(console) as bar:
            task = bar.add_task("class visualization", total=synthesis.recipe.steps * len(indices))
            for group in groups:
                results = synthesis.visualize(classifier, group, partial(bar.advance, task))
                for result in results:
                    rows += _write(result, synthesis.seed, captions, output)
                last += [
                    dataclasses.replace(result, frames=result.frames if len(last) < AT_ONCE else [])
                    for result in results
                ]
    finally:
        output.table("synthesis.csv", COLUMNS, rows)
        drawn = [result for result in last if result.frames]
        if drawn:
            output.figure("sheet.png", encode_figure(draw_strips(drawn, *captions)))
            output.figure("scores.png", encode_figure(draw_score_curves(drawn)))
            console.print(build_visualization_table(drawn, len(last)))
    return {"classes": len(indices)}


def _write(result: Visualization, seed: int, captions: tuple[str, str], output: Output) -> list[dict[str, Any]]:
    """The files of one class; its rows of synthesis.csv."""
    name = f"{result.index:03d}_{name_images([Path(result.name.replace('/', ' '))], Path())[0]}"
    suffix, content = encode_image(result.frames[-1].pixels)
    output.file(f"images/{name}{suffix}", content)
    output.file(f"animations/{name}.webp", encode_webp(result.frames, display=result.display))
    output.figure(f"figures/{name}.png", encode_figure(draw_strips([result], *captions)))
    rows = []
    for frame in result.frames:
        output.number(f"score/{name}", frame.score, frame.step)
        numbers = {"score": f"{frame.score:.6g}", "probability": f"{frame.probability:.6g}"}
        rows.append({"class": result.name, "index": result.index, "seed": seed, "step": frame.step, **numbers})
    return rows


def _words(synthesis: ClassVisualization) -> str:
    recipe = dataclasses.asdict(synthesis.recipe)
    unused = ("blur", "blur_every") if recipe["parametrization"] == "fourier" else ("decay", "contrast", "saturation")
    parameters = {"variant": synthesis.variant, "seed": synthesis.seed} | {
        k: v for k, v in recipe.items() if k not in unused
    }
    return ", ".join(f"{key}={value}" for key, value in parameters.items())
