"""Every class: climbed, saved, drawn, animated and tabulated."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from seewhy.classifier import Classifier
from seewhy.data.names import image_names
from seewhy.errors import UserError
from seewhy.figures import png
from seewhy.synthesis.animation import webp_of
from seewhy.synthesis.class_visualization import ClassVisualization
from seewhy.synthesis.eight_bit import png_of
from seewhy.synthesis.output import Output
from seewhy.synthesis.progress import progress
from seewhy.synthesis.strip_figure import score_curves, strips
from seewhy.synthesis.summary import visualization_table
from seewhy.synthesis.visualization import Visualization
from seewhy.targets import POLICIES, check_policy
from seewhy.terminal import work_ahead

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
    console.print(work_ahead(classifier, None, 0), soft_wrap=True)
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
            output.figure("sheet.png", png(strips(shown, *about)))
            output.figure("scores.png", png(score_curves(shown)))
            console.print(visualization_table(shown, len(last)))
    return {"classes": len(indices)}


def _write(made: Visualization, seed: int, about: tuple[str, str], output: Output) -> list[dict[str, Any]]:
    """The files of one class; its rows of synthesis.csv."""
    name = f"{made.index:03d}_{image_names([Path(made.name.replace('/', ' '))], Path())[0]}"
    output.file(f"images/{name}.png", png_of(made.frames[-1].pixels))
    output.file(f"animations/{name}.webp", webp_of(made.frames))
    output.figure(f"figures/{name}.png", png(strips([made], *about)))
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
