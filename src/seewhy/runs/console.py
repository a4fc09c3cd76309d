"""Sentences and tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich.markup import escape
from rich.table import Table

from seewhy.core.types import Explanation

if TYPE_CHECKING:
    from seewhy.explainers.base import Explainer
    from seewhy.models.classifier import Classifier


def describe_work(
    classifier: Classifier, explainer: Explainer | None = None, target: str | int = "predicted", images: int = 0
) -> str:
    """The network, the images and the cost of what comes, one line each."""
    facts = classifier.facts
    parameters = sum(parameter.numel() for parameter in classifier.parameters()) / 1e6
    lines = [
        f"[bold]{escape(classifier.name)}[/]  {escape(classifier.origin)}; {len(facts.classes)} classes "
        f"({escape(facts.classes[0])} ... {escape(facts.classes[-1])}), {facts.size} px, "
        f"{parameters:.1f} M parameters, on {classifier.device}"
    ]
    if explainer is None:
        return lines[0]
    cost = explainer.passes_per_image(size=facts.size, classes=len(facts.classes))
    parameters_text = f" ({explainer.parameters})" if explainer.parameters else ""
    lines.append(f"[bold]{explainer.name}[/]{escape(parameters_text)}, target: {escape(str(target))}")
    if cost is None:
        lines.append(f"{images:,} images; the passes per image depend on the image")
    else:
        total, bound = images * (cost[0] + cost[1]), "at most " if getattr(explainer, "incremental", False) else ""
        passes = f"{cost[0]:,} forward + {cost[1]:,} backward passes"
        beside = f", and {explainer.passes_per_call()} forward for each batch" if explainer.passes_per_call() else ""
        lines.append(f"{images:,} images x {bound}({passes}), {total:,} in all{beside}")
    return "\n".join(lines)


def build_results_table(explanations: list[Explanation]) -> Table:
    """One row per image: true class, prediction, target and the numbers about the map."""
    keys = [key for key in explanations[0].facts if key != "completeness_gap"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    same = all(made.target.index == made.prediction.index for made in explanations)
    for title in ("image", "true class", "predicted", "p", *(() if same else ("target", "p"))):
        number = title == "p"
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(title, justify=justify, overflow="ellipsis", no_wrap=True, min_width=5 if number else None)
    for key in keys:
        table.add_column("gap" if key == "completeness_gap_relative" else key.replace("_", " "), justify="right")
    for made in explanations:
        said = made.prediction
        colour = {True: "green", False: "red", None: "default"}[said.correct]
        cells = [escape(made.name), escape(said.label), f"[{colour}]{escape(said.name)}[/]", f"{said.probability:.3f}"]
        cells += [] if same else [escape(made.target.name), f"{made.target.probability:.3f}"]
        cells += [_number(key, made.facts[key], bool(made.warnings)) for key in keys]
        table.add_row(*cells)
    return table


def _number(key: str, value: float, warn: bool) -> str:
    if key == "completeness_gap_relative":
        return f"[yellow]{100 * value:.2f} %[/]" if warn else f"{100 * value:.2f} %"
    return f"{value:.0f}" if value % 1 == 0 else f"{value:.4g}"
