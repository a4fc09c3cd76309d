"""Sentences and tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from seewhy.core.disclosure import clean_message
from seewhy.core.facts import Facts
from seewhy.core.target_choice import LABELS, describe_target, parse_targets
from seewhy.core.types import Explanation
from seewhy.core.words import count_noun
from seewhy.plots.text import format_probability
from seewhy.runs.tables import Totals

if TYPE_CHECKING:
    from seewhy.explainers.base import Explainer
    from seewhy.models.classifier import Classifier


class TextConsole(Console):
    """A console that prints secrets as references and control characters as escapes; colours are its own."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render to segments of which each text is cleaned.

        Args:
            renderable: Text, or what can be drawn as text.
            options: Of the console.

        Yields:
            The segments.
        """
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else clean_message(text), style, control)


COLOURS = {True: "green", False: "red", None: "default"}
"""Of a prediction that is correct, wrong, or of which that is not known."""
SHORTEST = 8
"""Characters of a name that stay, however narrow the terminal is."""
FEWEST = 10
"""Labelled images from which on an accuracy is compared with chance."""
LEVEL = 0.05


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
    count = sum(parameter.numel() for parameter in classifier.parameters())
    parameters = f"{count / 1e6:.1f} M" if count >= 50_000 else f"{count:,}"
    network = (
        f"[bold]{escape(classifier.name)}[/]  {escape(classifier.origin)}; {len(facts.classes)} classes "
        f"({escape(facts.classes[0])} ... {escape(facts.classes[-1])}), {facts.describe_input()}, "
        f"{parameters} parameters, on {classifier.device}"
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
    counted = count_noun(images, "image")
    if cost is None:
        return f"{counted}; the passes per image depend on the image"
    total, bound = (
        targets * images * (cost[0] + cost[1]),
        "at most " if getattr(explainer, "incremental", False) else "",
    )
    passes = f"{cost[0] + cost[1]:,} pass{'es' if cost[0] + cost[1] != 1 else ''}"
    shared = f", and {explainer.passes_per_call()} forward for each batch" if explainer.passes_per_call() else ""
    each = f" × {targets} targets" if targets > 1 else ""
    return f"{counted}{each} × {bound}{passes} = {total:,} pass{'es' if total != 1 else ''}{shared}"


HIDDEN_FACTS = ("completeness_gap", "largest", "floor")
"""Facts that metrics.csv alone holds: in the terminal they would cut the numbers that people look for."""


def build_results_table(explanations: Sequence[Explanation], width: int = 100) -> Table:
    """Build the table of the explained images. Numbers are never cut.

    Where the terminal is narrow a resolved target gives way to the one that was set, and names lose their middle: beginning
    and end tell them apart.

    Args:
        explanations: At least one.
        width: Characters of the terminal.

    Returns:
        One row per image: true class, prediction, target and the numbers about the map.
    """
    keys = [key for key in explanations[0].facts if key not in HIDDEN_FACTS]
    table = Table(box=None, pad_edge=False, header_style="bold")
    same = all(explanation.target.index == explanation.prediction.index for explanation in explanations)
    shown = any(
        explanation.prediction.probability == explanation.prediction.probability for explanation in explanations
    )
    p = ("p",) if shown else ()
    titles = ["image", "true class", "predicted", *p, *(() if same else ("target", *p))]
    names = [number for number, title in enumerate(titles) if title != "p"]
    titles += ["gap" if key == "completeness_gap_relative" else key.replace("_", " ") for key in keys]
    rows = [_list_cells(explanation, same, shown, keys) for explanation in explanations]
    widths = _fit_widths(titles, rows, names, width)
    if "target" in titles:
        column, space = titles.index("target"), widths[titles.index("target")]
        for explanation, cells in zip(explanations, rows, strict=True):
            if cell_len(cells[column]) > space and explanation.target.policy != LABELS:
                cells[column] = explanation.target.policy
        widths = _fit_widths(titles, rows, names, width)
    rows = [[cut_middle(cell, space) for cell, space in zip(cells, widths, strict=True)] for cells in rows]
    for number, (title, space) in enumerate(zip(titles, widths, strict=True)):
        justify: Literal["left", "right"] = "left" if number in names else "right"
        table.add_column(title, justify=justify, overflow="ellipsis", no_wrap=True, min_width=space, max_width=space)
    for explanation, cells in zip(explanations, rows, strict=True):
        styles = {2: COLOURS[explanation.prediction.correct]}
        styles |= dict.fromkeys(range(len(titles) - len(keys), len(titles)), "yellow") if explanation.warnings else {}
        table.add_row(*(Text(cell, style=styles.get(number, "")) for number, cell in enumerate(cells)))
    return table


def _fit_widths(titles: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[int], width: int) -> list[int]:
    """The widths of the columns: those of names give way, the widest first, to `SHORTEST` characters at least."""
    widths = [max(cell_len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths[number] for number in names) > SHORTEST:
        widths[max(names, key=lambda number: widths[number])] -= 1
    return widths


def cut_middle(text: str, width: int) -> str:
    """Put an ellipsis in place of the middle of a text that is too wide; two thirds of what stays are its end.

    >>> cut_middle("Faces_easy__image_0004", 12)
    'Fac…age_0004'

    Args:
        text: Any text.
        width: Largest width in characters of the terminal, at least 1.

    Returns:
        A text of at most that width.
    """
    if cell_len(text) <= width:
        return text
    head, tail = set_cell_size(text, (width - 1) // 3).rstrip(), ""
    for character in reversed(text):
        if cell_len(head) + 1 + cell_len(character + tail) > width:
            break
        tail = character + tail
    return f"{head}…{tail}"


def _list_cells(explanation: Explanation, same: bool, shown: bool, keys: Sequence[str]) -> list[str]:
    prediction, target = explanation.prediction, explanation.target
    cells = [explanation.image_name, prediction.label, prediction.name]
    cells += [format_probability(prediction.probability)] if shown else []
    cells += [] if same else [target.name]
    cells += [format_probability(target.probability)] if shown and not same else []
    return cells + [_format_fact(key, explanation.facts[key]) for key in keys]


def describe_accuracy(totals: Totals) -> str:
    """Describe how many labelled images are classified correctly, and how many labels are no classes of the network.

    Args:
        totals: Of a run.

    Returns:
        One sentence for each, on lines of their own; empty where no image has a label.
    """
    sentences = [_describe_share(totals)] if totals.labelled else []
    if totals.foreign:
        sentences.append(describe_foreign_labels(totals.foreign, totals.foreign_label))
    return "\n".join(sentences)


def _describe_share(totals: Totals) -> str:
    share = f"{100 * totals.correct / totals.labelled:.1f} %"
    if totals.label_accuracies:
        each = 100 * sum(totals.label_accuracies) / len(totals.label_accuracies)
        return (
            f"all labels of {totals.correct:,} of {totals.labelled:,} images predicted correctly ({share}), {each:.1f} % of "
            "the single labels (labels.csv)"
        )
    return f"{totals.correct:,} of {totals.labelled:,} labelled images classified correctly ({share})"


def describe_foreign_labels(count: int, example: str) -> str:
    """Describe labels that are no classes of the network.

    Args:
        count: Images with such a label, at least 1.
        example: The label of the first of them.

    Returns:
        One sentence.
    """
    images = f"{count:,} image{'s have labels' if count > 1 else ' has a label'}"
    words = "that are no classes" if count > 1 else "that is no class"
    return f"{images} {words} of this network, {'such as ' if count > 1 else ''}{example}"


def doubt_accuracy(totals: Totals, classes: int, doubts: Sequence[str]) -> str:
    """Doubt the settings of trained weights that answer like chance.

    The exact binomial test of as many right answers or more by guessing, each class with the same probability.

    Args:
        totals: Of the run.
        classes: Of the network.
        doubts: Settings that its weights did not bring.

    Returns:
        What may be wrong; empty where the accuracy is better than chance at 5 %, below `FEWEST` labelled images, where
        images may have several labels, and where the weights brought all settings.
    """
    if totals.labelled < FEWEST or totals.label_accuracies or not doubts:
        return ""
    from scipy.stats import binom

    chance = float(binom.sf(totals.correct - 1, totals.labelled, 1 / classes))
    if chance <= LEVEL:
        return ""
    return (
        f"{totals.correct:,} of {totals.labelled:,} correct is no better than guessing among {classes:,} classes "
        f"(p = {chance:.2f}), so the maps explain a network that may see other images than in its training: check "
        f"{', '.join(doubts)}; the command doctor with the same model and data tries each"
    )


def list_caveats(totals: Totals, classifier: Classifier) -> list[str]:
    """List what a reader of the results must know.

    Args:
        totals: Of the run.
        classifier: That was tested.

    Returns:
        One sentence each on an accuracy like chance, on maps with a warning and on images that were left out.
    """
    doubt = doubt_accuracy(totals, len(classifier.facts.classes), classifier.doubts)
    caveats = [doubt] if doubt else []
    if totals.warned:
        caveats.append(f"{totals.warned} of {totals.explained} maps carry a warning: see their figures")
    if totals.skipped:
        caveats.append(f"{totals.skipped} images were left out: see skipped.csv")
    return caveats


def _format_fact(key: str, value: float) -> str:
    if key == "completeness_gap_relative":
        return f"{100 * value:.2f} %"
    return f"{value:.0f}" if value % 1 == 0 else f"{value:.4g}"
