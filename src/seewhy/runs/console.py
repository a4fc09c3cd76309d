"""Sentences and tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.markup import escape
from rich.table import Table

from seewhy.core.facts import Facts
from seewhy.core.target_choice import describe_target, parse_targets
from seewhy.core.types import Explanation
from seewhy.runs.tables import Totals

if TYPE_CHECKING:
    from seewhy.explainers.base import Explainer
    from seewhy.models.classifier import Classifier

COLOURS = {True: "green", False: "red", None: "default"}
"""Of a prediction that is correct, wrong, or of which that is not known."""


def describe_work(
    classifier: Classifier, explainer: Explainer | None = None, target: object = "predicted", images: int = 0
) -> str:
    """Describe the network and the work ahead.

    Args:
        classifier: The network.
        explainer: The method; None: the network alone is described.
        target: What is explained.
        images: How many images will be explained.

    Returns:
        The network, the method, and the images with the cost of the work, one line each.
    """
    facts = classifier.facts
    parameters = sum(parameter.numel() for parameter in classifier.parameters()) / 1e6
    network = (
        f"[bold]{escape(classifier.name)}[/]  {escape(classifier.origin)}; {len(facts.classes)} classes "
        f"({escape(facts.classes[0])} ... {escape(facts.classes[-1])}), {facts.describe_input()}, "
        f"{parameters:.1f} M parameters, on {classifier.device}"
    )
    if explainer is None:
        return network
    settings = f" ({explainer.parameters})" if explainer.parameters else ""
    method = f"[bold]{explainer.name}[/]{escape(settings)}, target: {escape(describe_target(target))}"
    targets = len(parse_targets(target, facts.classes))
    return "\n".join([network, method, _describe_cost(explainer, facts, images, targets)])


def _describe_cost(explainer: Explainer, facts: Facts, images: int, targets: int) -> str:
    size, classes = facts.size, len(facts.classes)
    cost = explainer.passes_per_image(size=size, classes=classes)
    if cost is None:
        return f"{images:,} images; the passes per image depend on the image"
    total, bound = (
        targets * images * (cost[0] + cost[1]),
        "at most " if getattr(explainer, "incremental", False) else "",
    )
    passes = f"{cost[0]:,} forward + {cost[1]:,} backward passes"
    shared = f", and {explainer.passes_per_call()} forward for each batch" if explainer.passes_per_call() else ""
    each = f" x {targets} targets" if targets > 1 else ""
    return f"{images:,} images{each} x {bound}({passes}), {total:,} in all{shared}"


def build_results_table(explanations: Sequence[Explanation]) -> Table:
    """Build the table of the explained images.

    Args:
        explanations: At least one.

    Returns:
        One row per image: true class, prediction, target and the numbers about the map.
    """
    keys = [key for key in explanations[0].facts if key != "completeness_gap"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    same = all(explanation.target.index == explanation.prediction.index for explanation in explanations)
    shown = any(
        explanation.prediction.probability == explanation.prediction.probability for explanation in explanations
    )
    p = ("p",) if shown else ()
    for title in ("image", "true class", "predicted", *p, *(() if same else ("target", *p))):
        number = title == "p"
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(title, justify=justify, overflow="ellipsis", no_wrap=True, min_width=5 if number else None)
    for key in keys:
        table.add_column("gap" if key == "completeness_gap_relative" else key.replace("_", " "), justify="right")
    for explanation in explanations:
        prediction, target = explanation.prediction, explanation.target
        predicted = f"[{COLOURS[prediction.correct]}]{escape(prediction.name)}[/]"
        cells = [escape(explanation.image_name), escape(prediction.label), predicted]
        cells += [f"{prediction.probability:.3f}"] if shown else []
        if not same:
            cells += [
                escape(target.name),
                *(["" if target.probability != target.probability else f"{target.probability:.3f}"] if shown else []),
            ]
        cells += [_format_fact(key, explanation.facts[key], bool(explanation.warnings)) for key in keys]
        table.add_row(*cells)
    return table


def describe_accuracy(totals: Totals) -> str:
    """Describe how many labelled images are classified correctly.

    Args:
        totals: Of a run with at least one labelled image.

    Returns:
        One sentence.
    """
    share = f"{100 * totals.correct / totals.labelled:.1f} %"
    if totals.label_accuracies:
        each = 100 * sum(totals.label_accuracies) / len(totals.label_accuracies)
        return (
            f"all labels of {totals.correct:,} of {totals.labelled:,} images predicted right ({share}), {each:.1f} % of the "
            "single labels (labels.csv)"
        )
    return f"{totals.correct:,} of {totals.labelled:,} images of a known class predicted right ({share})"


def list_caveats(totals: Totals) -> list[str]:
    """List what a reader of the results must know.

    Args:
        totals: Of the run.

    Returns:
        One sentence each on maps with a warning and on images that were left out.
    """
    caveats = []
    if totals.warned:
        caveats.append(f"{totals.warned} of {totals.explained} maps carry a warning: see their figures")
    if totals.skipped:
        caveats.append(f"{totals.skipped} images were left out: see skipped.csv")
    return caveats


def _format_fact(key: str, value: float, warn: bool) -> str:
    if key == "completeness_gap_relative":
        return f"[yellow]{100 * value:.2f} %[/]" if warn else f"{100 * value:.2f} %"
    return f"{value:.0f}" if value % 1 == 0 else f"{value:.4g}"
