"""Original, fooling image, difference and ten times the difference, with true values.

Every image of the data: fooled, saved, drawn and tabulated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from seewhy.analyses.synthesis.base import Output, png_of, progress, sheltered
from seewhy.analyses.synthesis.fooling_image import COLUMNS, FooledImage, FoolingImage, Said
from seewhy.analyses.synthesis.summary import enlarged, fooling_table, page_of
from seewhy.core.targets import UNKNOWN, check_policy, choose_targets
from seewhy.core.types import Batch, Skipped
from seewhy.explainers.batch import build_predictions
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier
from seewhy.plots.canvas import Drawing, encode_figure
from seewhy.plots.colormaps import INK, MUTED, RIGHT, WRONG
from seewhy.plots.explanation import GAP, MARGIN, draw_cells
from seewhy.plots.heatmaps import to_rgb
from seewhy.plots.text import format_number, format_probability, join_lines, wrap
from seewhy.plots.views import Cell
from seewhy.runs.console import describe_work

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

HEADING, BODY, SMALL = 11.0, 8.5, 7.5
MAGNIFIED = 10


def fooling_panel(made: FooledImage, parameters: str, classifier: str) -> Drawing:
    """Four pictures of one image: nothing is rescaled to its own range, and grey stands for no change."""
    height, width = made.original.shape[-2:]
    side = enlarged(height, 448), enlarged(width, 448)
    page = page_of(4, side[1])
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(_headline(made), room, HEADING, True), HEADING, weight="bold")
    for line in join_lines([f"classifier: {classifier}", f"image: {made.name}", parameters], room, BODY):
        y = page.lines(MARGIN, y, wrap(line, room, BODY), BODY, MUTED)
    y = draw_cells(page, y + GAP / 2, cells(made), side, BODY) + GAP / 2
    for line in join_lines(_numbers(made), room, SMALL):
        y = page.lines(MARGIN, y, wrap(line, room, SMALL), SMALL, MUTED)
    return page.finish(y + MARGIN * 0.7)


def fooling_sheet(shown: Sequence[FooledImage], total: int, parameters: str, classifier: str) -> Drawing:
    """The four pictures of every image, one image a row."""
    height, width = (max(made.original.shape[axis] for made in shown) for axis in (-2, -1))
    side = enlarged(height, 224), enlarged(width, 224)
    page = page_of(4, side[1])
    room = page.points(page.width - 2 * MARGIN)
    fooled = f"{sum(made.success for made in shown)} of {len(shown)} images are taken for the target"
    title = fooled if total == len(shown) else f"the first {len(shown)} of {total:,} images: {fooled}"
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(title, room, HEADING, True), HEADING, weight="bold")
    for line in join_lines([f"classifier: {classifier}", parameters], room, SMALL):
        y = page.lines(MARGIN, y, wrap(line, room, SMALL), SMALL, MUTED)
    for made in shown:
        y = draw_cells(page, y + GAP / 2, cells(made), side, SMALL)
    return page.finish(y + MARGIN * 0.7)


def cells(made: FooledImage) -> list[Cell]:
    """The four pictures under what the classifier says, or under what the picture shows."""
    before = f"{made.predicted.name} {format_probability(made.predicted.before)}"
    shown = made.target if made.success else made.predicted
    after = f"{made.answer} {format_probability(shown.after)}" if made.answer == shown.name else made.answer
    clipped = float((MAGNIFIED * made.difference).abs().gt(0.5).float().mean())
    saturated = f", {100 * clipped:.2g} % clipped" if clipped else ""
    return [
        Cell([("original", MUTED), (before, INK)], to_rgb(made.original)),
        Cell([("fooling image", MUTED), (after, RIGHT if made.success else WRONG)], to_rgb(made.saved)),
        Cell([("difference", INK), ("grey: no change", MUTED)], around_grey(made.difference)),
        Cell(
            [(f"{MAGNIFIED} × difference", INK), (f"grey: no change{saturated}", MUTED)],
            around_grey(MAGNIFIED * made.difference),
        ),
    ]


def around_grey(difference: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """0.5 + difference as [height, width, 3], clipped to [0, 1]: true values around a middle grey."""
    return to_rgb(0.5 + difference)


def _headline(made: FooledImage) -> str:
    if made.outcome == "already the target":
        return f"{made.predicted.name} is already the target"
    verdict = f"taken for {made.answer}" if made.success else f"not taken for {made.target.name}: {made.outcome}"
    return f"{made.predicted.name} {verdict} after {made.steps} step{'' if made.steps == 1 else 's'}"


def _numbers(made: FooledImage) -> list[str]:
    psnr = "no change" if math.isinf(made.psnr) else f"PSNR {made.psnr:.1f} dB"
    return [
        *(
            f"p({said.name}) {format_probability(said.before)} → {format_probability(said.after)}"
            for said in (made.predicted, made.target)
        ),
        f"L2 {format_number(made.l2)} ({format_number(made.l2_unrounded)} before rounding to 8 bits)",
        f"L∞ {made.linf * 255:.0f}/255",
        psnr,
    ]


ON_SHEET = 20
IN_TENSORBOARD = 16
LOGGED = ("steps", "l2", "linf", "psnr")


@dataclass
class _Made:
    rows: list[dict[str, str]] = field(default_factory=list)
    shown: list[FooledImage] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def fool_all(
    synthesis: FoolingImage, classifier: Classifier, data: LightningDataModule, output: Output
) -> dict[str, Any]:
    """images/, figures/, sheet.png, synthesis.csv and skipped.csv; what was done survives an interruption."""
    check_policy(synthesis.target, classifier.facts.classes)
    data.setup("test")
    loader = data.test_dataloader()
    console = Console(highlight=False)
    console.print(describe_work(classifier), soft_wrap=True)
    made = _Made()
    try:
        with progress(console) as bar:
            for batch in bar.track(loader, description="fooling images"):
                fooled, skipped = fool_batch(synthesis, classifier, batch.to(classifier.device))
                made.skipped += [*batch.skipped, *skipped]
                _write(synthesis, classifier, fooled, made, output)
    finally:
        output.table("synthesis.csv", COLUMNS, made.rows)
        output.table("skipped.csv", Skipped._fields, [one._asdict() for one in made.skipped])
        if made.shown:
            about = _words(synthesis), f"{classifier.name} ({classifier.origin})"
            output.figure("sheet.png", encode_figure(fooling_sheet(made.shown, len(made.rows), *about)))
            console.print(fooling_table(made.shown, len(made.rows)))
    successes = sum(row["success"] == "yes" for row in made.rows)
    return {"images": len(made.rows), "images_skipped": len(made.skipped), "successes": successes}


def fool_batch(
    synthesis: FoolingImage, classifier: Classifier, batch: Batch
) -> tuple[list[FooledImage], list[Skipped]]:
    """(one result per image, images without the target that the policy asks for)."""
    if not len(batch.images):
        return [], []
    evaluator = BatchedEvaluator(classifier, batch.images[0], synthesis.probe_batch_size)
    with sheltered(classifier):
        before = evaluator.compute_logits(batch.images)
    targets = choose_targets(synthesis.target, before, batch.labels, classifier.facts.classes)
    known = (targets != UNKNOWN).nonzero().flatten()
    reason = f"its true class is unknown to the network, and synthesis.target={synthesis.target}"
    skipped = [Skipped(batch.paths[row], reason) for row in (targets == UNKNOWN).nonzero().flatten().tolist()]
    if not len(known):
        return [], skipped
    fooled = synthesis.fool(classifier, batch.images[known], targets[known])
    with sheltered(classifier):
        after = evaluator.compute_logits(fooled.images)
    said = build_predictions(classifier, batch, before)
    made = []
    for place, row in enumerate(known.tolist()):
        both = classifier.facts.compute_probabilities(torch.stack([before[row], after[place]]))
        answer = int(after[place].argmax())
        made.append(
            FooledImage(
                name=batch.names[row],
                path=batch.paths[row],
                label=batch.label_names[row],
                original=batch.images[row].detach().cpu(),
                saved=fooled.images[place].cpu(),
                unrounded=fooled.unrounded[place].cpu(),
                steps=int(fooled.steps[place]),
                outcome=fooled.outcomes[place],
                predicted=Said(said[row].name, *both[:, said[row].index].tolist()),
                target=Said(classifier.facts.classes[int(targets[row])], *both[:, int(targets[row])].tolist()),
                answer=classifier.facts.classes[answer],
                success=answer == int(targets[row]),
            )
        )
    return made, skipped


def _write(
    synthesis: FoolingImage, classifier: Classifier, fooled: list[FooledImage], made: _Made, output: Output
) -> None:
    about = _words(synthesis), f"{classifier.name} ({classifier.origin})"
    for one in fooled:
        output.file(f"images/{one.name}.png", png_of(one.saved))
        write = output.figure if len(made.rows) < IN_TENSORBOARD else output.file
        write(f"figures/{one.name}.png", encode_figure(fooling_panel(one, *about)))
        row = one.row()
        for column in LOGGED:
            output.number(f"per_image/{column}", float(row[column]), len(made.rows))
        made.rows.append(row)
    made.shown += fooled[: ON_SHEET - len(made.shown)]


def _words(synthesis: FoolingImage) -> str:
    return ", ".join(f"{key}={value}" for key, value in synthesis.parameters.items() if key != "seed")
