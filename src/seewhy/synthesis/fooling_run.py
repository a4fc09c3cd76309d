"""Every image of the data: fooled, saved, drawn and tabulated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from seewhy.classifier import Classifier
from seewhy.explain_batch import predictions
from seewhy.figures import png
from seewhy.probe import Probe
from seewhy.synthesis.base import sheltered
from seewhy.synthesis.eight_bit import png_of
from seewhy.synthesis.fooled_image import COLUMNS, FooledImage, Said
from seewhy.synthesis.fooling_figure import fooling_panel, fooling_sheet
from seewhy.synthesis.fooling_image import FoolingImage
from seewhy.synthesis.output import Output
from seewhy.synthesis.progress import progress
from seewhy.synthesis.summary import fooling_table
from seewhy.targets import UNKNOWN, check_policy, choose_targets
from seewhy.terminal import work_ahead
from seewhy.types import Batch, Skipped

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

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
    console.print(work_ahead(classifier, None, 0), soft_wrap=True)
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
            output.figure("sheet.png", png(fooling_sheet(made.shown, len(made.rows), *about)))
            console.print(fooling_table(made.shown, len(made.rows)))
    successes = sum(row["success"] == "yes" for row in made.rows)
    return {"images": len(made.rows), "images_skipped": len(made.skipped), "successes": successes}


def fool_batch(
    synthesis: FoolingImage, classifier: Classifier, batch: Batch
) -> tuple[list[FooledImage], list[Skipped]]:
    """(one result per image, images without the target that the policy asks for)."""
    if not len(batch.images):
        return [], []
    probe = Probe(classifier, batch.images[0], synthesis.probe_batch_size)
    with sheltered(classifier):
        before = probe.logits(batch.images)
    targets = choose_targets(synthesis.target, before, batch.labels, classifier.facts.classes)
    known = (targets != UNKNOWN).nonzero().flatten()
    reason = f"its true class is unknown to the network, and synthesis.target={synthesis.target}"
    skipped = [Skipped(batch.paths[row], reason) for row in (targets == UNKNOWN).nonzero().flatten().tolist()]
    if not len(known):
        return [], skipped
    fooled = synthesis.fool(classifier, batch.images[known], targets[known])
    with sheltered(classifier):
        after = probe.logits(fooled.images)
    said = predictions(classifier, batch, before)
    made = []
    for place, row in enumerate(known.tolist()):
        both = torch.stack([before[row], after[place]]).softmax(1)
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
        write(f"figures/{one.name}.png", png(fooling_panel(one, *about)))
        row = one.row()
        for column in LOGGED:
            output.number(f"per_image/{column}", float(row[column]), len(made.rows))
        made.rows.append(row)
    made.shown += fooled[: ON_SHEET - len(made.shown)]


def _words(synthesis: FoolingImage) -> str:
    return ", ".join(f"{key}={value}" for key, value in synthesis.parameters.items() if key != "seed")
