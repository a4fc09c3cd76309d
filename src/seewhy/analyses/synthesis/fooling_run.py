"""Fool the classifier with every image of the data: search, save, draw and tabulate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from seewhy.analyses.synthesis.base import Output, build_progress_bar, encode_image, isolate
from seewhy.analyses.synthesis.fooling_image import COLUMNS, FooledImage, FoolingImage, ProbabilityChange
from seewhy.analyses.synthesis.summary import build_fooling_table, create_page, enlarge_to
from seewhy.core.facts import select_display
from seewhy.core.targets import UNKNOWN, check_policy, choose_targets
from seewhy.core.types import Batch, Skipped
from seewhy.core.words import count_noun
from seewhy.explainers.batch import build_predictions
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier
from seewhy.plots.canvas import Drawing, encode_figure
from seewhy.plots.explanation import GAP, MARGIN, Cell, draw_cells
from seewhy.plots.heatmaps import INK, MUTED, NAMES, RIGHT, WRONG, build_colour_map, normalise, to_rgb
from seewhy.plots.text import format_number, format_probability, join_lines, wrap
from seewhy.runs.console import TextConsole, describe_work

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

HEADING, BODY, SMALL = 11.0, 8.5, 7.5
MAGNIFIED = 10


def draw_fooling_panel(result: FooledImage, parameters: str, classifier: str) -> Drawing:
    """Four pictures of one image: nothing is rescaled to its own range, and grey stands for no change."""
    height, width = result.original.shape[-2:]
    side = enlarge_to(height, width, 448)
    page = create_page(4, side[1])
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(_headline(result), room, HEADING, True), HEADING, weight="bold")
    for line in join_lines([f"classifier: {classifier}", f"image: {result.name}", parameters], room, BODY):
        y = page.lines(MARGIN, y, wrap(line, room, BODY), BODY, MUTED)
    y = draw_cells(page, y + GAP / 2, build_cells(result), side, BODY) + GAP / 2
    for line in join_lines(_numbers(result), room, SMALL):
        y = page.lines(MARGIN, y, wrap(line, room, SMALL), SMALL, MUTED)
    return page.finish(y + MARGIN * 0.7)


def draw_fooling_sheet(results: Sequence[FooledImage], total: int, parameters: str, classifier: str) -> Drawing:
    """The four pictures of every image, one image a row."""
    height, width = (max(result.original.shape[axis] for result in results) for axis in (-2, -1))
    side = enlarge_to(height, width, 224)
    page = create_page(4, side[1])
    room = page.points(page.width - 2 * MARGIN)
    fooled = f"{sum(result.success for result in results)} of {len(results)} images are misclassified as the target"
    title = fooled if total == len(results) else f"the first {len(results)} of {total:,} images: {fooled}"
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(title, room, HEADING, True), HEADING, weight="bold")
    for line in join_lines([f"classifier: {classifier}", parameters], room, SMALL):
        y = page.lines(MARGIN, y, wrap(line, room, SMALL), SMALL, MUTED)
    for result in results:
        y = draw_cells(page, y + GAP / 2, build_cells(result), side, SMALL)
    return page.finish(y + MARGIN * 0.7)


def build_cells(result: FooledImage) -> list[Cell]:
    """The four pictures under what the classifier says, or under what the picture shows."""
    before = f"{result.predicted.name} {format_probability(result.predicted.before)}"
    change = result.target if result.success else result.predicted
    after = f"{result.answer} {format_probability(change.after)}" if result.answer == change.name else result.answer
    difference = select_display(result.difference, result.display)
    clipped = float((MAGNIFIED * difference).abs().gt(0.5).float().mean())
    sizes = difference.abs().amax(0)
    largest = float(sizes.max())
    shown = build_colour_map(NAMES[0], "unsigned").paint(normalise(sizes, largest, signed=False))
    saturated = f", {100 * clipped:.2g} % clipped" if clipped else ""
    return [
        Cell([("original", MUTED), (before, INK)], to_rgb(select_display(result.original, result.display))),
        Cell(
            [("fooling image", MUTED), (after, RIGHT if result.success else WRONG)],
            to_rgb(select_display(result.saved, result.display)),
        ),
        Cell([("size of the difference", INK), (f"brightest: {largest:.2g} of the range", MUTED)], shown),
        Cell(
            [(f"{MAGNIFIED} × difference", INK), (f"grey: no change{saturated}", MUTED)],
            shift_to_grey(MAGNIFIED * difference),
        ),
    ]


def shift_to_grey(difference: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """0.5 + difference as [height, width, 3], clipped to [0, 1]: true values around a middle grey."""
    return to_rgb(0.5 + difference)


def _headline(result: FooledImage) -> str:
    if result.outcome == "already the target":
        return f"{result.predicted.name} is already the target"
    verdict = (
        f"taken for {result.answer}" if result.success else f"not taken for {result.target.name}: {result.outcome}"
    )
    return f"{result.predicted.name} {verdict} after {count_noun(result.steps, 'step')}"


def _numbers(result: FooledImage) -> list[str]:
    psnr = "no change" if math.isinf(result.psnr) else f"PSNR {result.psnr:.1f} dB"
    return [
        *(
            f"p({change.name}) {format_probability(change.before)} → {format_probability(change.after)}"
            for change in (result.predicted, result.target)
        ),
        f"L2 {format_number(result.l2)} ({format_number(result.l2_unrounded)} before rounding to 8 bits)",
        f"L∞ {result.linf * 255:.0f}/255",
        psnr,
    ]


ON_SHEET = 20
IN_TENSORBOARD = 16
LOGGED = ("steps", "l2", "linf", "psnr")


@dataclass
class _Results:
    rows: list[dict[str, str]] = field(default_factory=list)
    drawn: list[FooledImage] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def fool_images(
    synthesis: FoolingImage, classifier: Classifier, data: LightningDataModule, output: Output
) -> dict[str, Any]:
    """images/, figures/, sheet.png, synthesis.csv and skipped.csv; what was done survives an interruption."""
    classifier.facts.require_score("synthesis=fooling_image", "softmax", "binary")
    check_policy(synthesis.target, classifier.facts.classes)
    data.setup("test")
    loader = data.test_dataloader()
    console = TextConsole()
    console.print(describe_work(classifier), soft_wrap=True)
    summary = _Results()
    try:
        with build_progress_bar(console) as bar:
            for batch in bar.track(loader, description="fooling images"):
                fooled, skipped = fool_batch(synthesis, classifier, batch.to(classifier.device))
                summary.skipped += [*batch.skipped, *skipped]
                _write(synthesis, classifier, fooled, summary, output)
    finally:
        output.table("synthesis.csv", COLUMNS, summary.rows)
        output.table("skipped.csv", Skipped._fields, [image._asdict() for image in summary.skipped])
        if summary.drawn:
            captions = _words(synthesis), f"{classifier.name} ({classifier.origin})"
            output.figure("sheet.png", encode_figure(draw_fooling_sheet(summary.drawn, len(summary.rows), *captions)))
            console.print(build_fooling_table(summary.drawn, len(summary.rows)))
    successes = sum(row["success"] == "yes" for row in summary.rows)
    return {"images": len(summary.rows), "images_skipped": len(summary.skipped), "successes": successes}


def fool_batch(
    synthesis: FoolingImage, classifier: Classifier, batch: Batch
) -> tuple[list[FooledImage], list[Skipped]]:
    """(one result per image, images without the target that the policy asks for)."""
    if not len(batch.images):
        return [], []
    evaluator = BatchedEvaluator(classifier, batch.images[0], synthesis.probe_batch_size)
    with isolate(classifier):
        before = evaluator.compute_logits(batch.images)
    targets = choose_targets(synthesis.target, before, batch.labels, classifier.facts.classes)
    targeted = (targets != UNKNOWN).nonzero().flatten()
    reason = f"its true class is unknown to the network, and synthesis.target={synthesis.target}"
    skipped = [Skipped(batch.paths[row], reason) for row in (targets == UNKNOWN).nonzero().flatten().tolist()]
    if not len(targeted):
        return [], skipped
    fooled = synthesis.fool(classifier, batch.images[targeted], targets[targeted])
    with isolate(classifier):
        after = evaluator.compute_logits(fooled.images)
    predictions = build_predictions(classifier, batch, before)
    results = []
    for position, row in enumerate(targeted.tolist()):
        both = classifier.facts.report_probabilities(torch.stack([before[row], after[position]]))
        answer = int(after[position].argmax())
        results.append(
            FooledImage(
                name=batch.names[row],
                path=batch.paths[row],
                label=batch.label_names[row],
                original=batch.images[row].detach().cpu(),
                saved=fooled.images[position].cpu(),
                unrounded=fooled.unrounded[position].cpu(),
                steps=int(fooled.steps[position]),
                outcome=fooled.outcomes[position],
                predicted=ProbabilityChange(predictions[row].name, *both[:, predictions[row].index].tolist()),
                target=ProbabilityChange(
                    classifier.facts.classes[int(targets[row])], *both[:, int(targets[row])].tolist()
                ),
                answer=classifier.facts.classes[answer],
                success=answer == int(targets[row]),
                display=classifier.facts.display,
            )
        )
    return results, skipped


def _write(
    synthesis: FoolingImage, classifier: Classifier, fooled: list[FooledImage], summary: _Results, output: Output
) -> None:
    captions = _words(synthesis), f"{classifier.name} ({classifier.origin})"
    for result in fooled:
        suffix, content = encode_image(result.saved)
        output.file(f"images/{result.name}{suffix}", content)
        write = output.figure if len(summary.rows) < IN_TENSORBOARD else output.file
        write(f"figures/{result.name}.png", encode_figure(draw_fooling_panel(result, *captions)))
        row = result.row()
        for column in LOGGED:
            output.number(f"per_image/{column}", float(row[column]), len(summary.rows))
        summary.rows.append(row)
    summary.drawn += fooled[: ON_SHEET - len(summary.drawn)]


def _words(synthesis: FoolingImage) -> str:
    return ", ".join(f"{key}={value}" for key, value in synthesis.parameters.items() if key != "seed")
