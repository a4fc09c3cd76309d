"""What an audit leaves: audit.csv, shortcuts.csv, files_to_check.csv, audit.md, and a figure of each group worth a look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from seewhy.analyses.audit.groups import ALL
from seewhy.analyses.audit.maps import APART, Facts
from seewhy.analyses.audit.pictures import split_evenly
from seewhy.analyses.audit.proof import BY_CLASS, BY_PLACE, BY_REST, REMOVED
from seewhy.analyses.audit.run import Result
from seewhy.analyses.audit.verdict import Finding
from seewhy.analyses.synthesis.summary import create_page, enlarge_to
from seewhy.core.facts import select_display
from seewhy.core.files import RunFolder
from seewhy.core.words import count_noun
from seewhy.models.classifier import Classifier
from seewhy.plots.canvas import Drawing, encode_figure
from seewhy.plots.explanation import GAP, MARGIN, Cell, draw_cells
from seewhy.plots.heatmaps import INK, MUTED, blend_overlay, build_colour_map, compute_scale, normalise, to_rgb
from seewhy.plots.masks import outline_region
from seewhy.plots.text import wrap
from seewhy.runs.console import TextConsole
from seewhy.runs.loggers.base import RunLogger
from seewhy.statistics.intervals import DIFFERENCE, SHARE, Bounds, compute_mean_intervals

RANGES = ("share", "rise", "fall", REMOVED, BY_PLACE, BY_REST, BY_CLASS)
COLUMNS = (
    *("number", "verdict", "class", "kind", "images"),
    *(f"{name}{end}" for name in RANGES for end in ("", "_low", "_high")),
    *(
        "follow",
        "accuracy_with",
        "accuracy_without",
        "outside_object",
        "border",
        "spread",
        "stability",
        "p",
        "p_holm",
        "source",
        "reason",
    ),
)
FILE_COLUMNS = ("number", "why", "class", "image", "path", "label", "predicted", "probability")
EXAMPLES, ACROSS = 10, 5
DRAWN = 6
"""Groups without an effect that are drawn too."""
WORDS = {
    "place": "the same pixels at one place",
    "pattern": "one pattern over the image",
    "cast": "one cast of colour",
}
UNPROVABLE = "not provable"
"""Verdict of images of many classes, whose objects cannot be told from what they share."""
HEADING, SMALL = 11.0, 7.5


class Content(NamedTuple):
    """What the page of an audit shows.

    Attributes:
        sentences: What was found.
        rows: Of audit.csv.
        figures: PNG of groups, by their numbers.
    """

    sentences: list[str]
    rows: list[dict[str, Any]]
    figures: dict[int, bytes]


def write_audit(
    result: Result, classifier: Classifier, method: str, folder: Path, loggers: RunLogger
) -> tuple[dict[str, Any], Content]:
    """Write the files of an audit, log its pictures and print what it found.

    Args:
        result: Of the audit.
        classifier: The network.
        method: The method in words.
        folder: The run folder.
        loggers: Of the run.

    Returns:
        (what the run's record says of it, what its page shows).
    """
    out, names = RunFolder(folder), classifier.facts.classes
    rows = [write_row(number, each) for number, each in enumerate(result.findings, 1)]
    out.write_csv("audit.csv", COLUMNS, rows)
    proven = [row for row, each in zip(rows, result.findings, strict=True) if each.proven and not each.same_as]
    out.write_csv("shortcuts.csv", COLUMNS, proven)
    out.write_csv("files_to_check.csv", FILE_COLUMNS, _list_files(result, names))
    looked = [(number, each) for number, each in enumerate(result.findings, 1) if not each.same_as]
    odd = [number for number, each in looked if not each.proven][:DRAWN]
    figures = {}
    for number, each in looked:
        if each.proven or number in odd:
            figures[number] = encode_figure(draw_finding(number, each, result, classifier))
            out.write_bytes(name_figure(number), figures[number])
            loggers.log_image(f"audit/group_{number:02d}", figures[number])
    sentences = [*describe(result, names), *describe_masks(result.facts)]
    lines = [
        f"# What {classifier.name} uses besides the object",
        "",
        f"{classifier.name} ({classifier.origin}), {len(result.pictures):,} images, maps: {method}.",
        "",
        *(f"- {sentence}" for sentence in sentences),
        "",
        *_write_table(rows),
        "",
        *(f"![group {number}]({name_figure(number)})" for number in figures),
        "",
    ]
    out.write_bytes("audit.md", "\n".join(lines).encode())
    TextConsole().print("\n".join(sentences), soft_wrap=True, markup=False)
    strongest = max((each.effect for each in result.shortcuts), default=0.0)
    record = {
        "images": len(result.pictures),
        "classes": len(result.subjects),
        "groups": len(result.findings),
        "shortcuts": len(proven),
        "strongest": round(strongest, 6),
        "images_done_before": result.before[0],
        "groups_done_before": result.before[1],
    }
    return record, Content(sentences, rows, figures)


def name_figure(number: int) -> str:
    """Name the file of a group's figure.

    Args:
        number: Of the group.

    Returns:
        A path below the run folder.
    """
    return f"figures/group_{number:02d}.png"


def describe(result: Result, names: Sequence[str]) -> list[str]:
    """Describe what was found, a sentence for each shortcut.

    Args:
        result: Of an audit.
        names: Of the classes.

    Returns:
        The sentences, the first of which counts.
    """
    shortcuts, tried = result.shortcuts, len(result.findings)
    looked = f"{count_noun(tried, 'group')} of {len(result.subjects)} classes and confusions"
    if result.subjects and result.subjects[0].target == ALL:
        return _describe_places(result)
    if not shortcuts:
        return [f"no shortcut is proven: {looked} looked odd, without an effect that is the group's own"]
    sentences = [f"{count_noun(len(shortcuts), 'shortcut')} proven, of {looked}"]
    for number, each in enumerate(result.findings, 1):
        if not each.proven or each.same_as:
            continue
        name = names[each.target]
        text = (
            f"{number}. {each.subject}: {_percent(each.share)} of its images share {WORDS[each.kind]}. Put into images of "
            f"other classes it raises the probability of {name} by {_range(each.rise)}, at least {each.effect:.2f} more "
            f"than any control, and {100 * each.follow:.0f} % of them become {name}; taken out of its own images it costs "
            f"{_range(each.fall)}"
        )
        if not math.isnan(each.accuracy[0]):
            text += f", and accuracy on them falls from {100 * each.accuracy[0]:.0f} to {100 * each.accuracy[1]:.0f} %"
        if not math.isnan(each.outside):
            text += f"; {100 * each.outside:.0f} % of their maps lies outside of the object"
        sentences.append(text)
    return sentences


LIKENESS = {
    "position": "alike in where their maps lie",
    "appearance": "alike in what the network sees there",
    "colour": "alike in their colours",
    "border": "alike in the pixels at the border",
    "pattern": "alike in fine patterns",
}
"""What images of a group have in common, by the embedding that it was found in."""


def _describe_places(result: Result) -> list[str]:
    """Where the evidence of images of many classes lies, and what it costs to take it away."""
    count = len(result.pictures)
    some = "" if count == result.whole else f" {count} of them, evenly spread, were looked at together."
    sentences = [
        f"no shortcut can be proven: no class is predicted for enough of the {result.whole:,} images.{some} Places that "
        "matter more than random ones of the same size:"
    ]
    for number, each in enumerate(result.findings, 1):
        removed = each.effects.get(REMOVED, (0.0, 0.0, 0.0))
        if removed[1] > 0:
            alike = LIKENESS.get(each.source.partition(",")[0], each.source)
            sentences.append(
                f"{number}. {_percent(each.share)} of the images, {alike}: without the place that their maps share the "
                f"probability of their class falls by {_range(each.fall)}, {_range(removed)} more than at random places "
                f"(at the border their maps have {each.border:.1f} times as much as an even map)"
            )
    return sentences


def describe_masks(facts: Facts) -> list[str]:
    """Describe what lies outside of the objects, and what it costs to take it away.

    Args:
        facts: Of all images.

    Returns:
        One sentence; none without masks.
    """
    masked = np.isfinite(facts.outside) & np.isfinite(facts.apart).all(1)
    if not masked.any():
        return []
    outside, around, without_object, without_rest = (values[masked] for values in (facts.outside, *facts.apart.T[:3]))
    changes = facts.apart[masked, 3:].sum(0).astype(int)
    samples = [outside, outside / around, without_object, without_rest]
    bounds: list[Bounds] = [SHARE, (0, None), DIFFERENCE, DIFFERENCE]
    intervals = (each.clip(ends) for each, ends in zip(compute_mean_intervals(samples, 0), bounds, strict=True))
    means = [
        (float(values.mean()), interval.low, interval.high) for values, interval in zip(samples, intervals, strict=True)
    ]
    return [
        f"{count_noun(int(masked.sum()), 'image')} with a mask: {_percent(means[0])} of their maps lies outside of the "
        f"object, {_range(means[1])} times as much as an even map has there. Where the object is imputed from the rest of "
        f"the image, the probability of the predicted class falls by {_range(means[2])} and {changes[0]} images get another "
        f"class; where the rest is imputed from the object, by {_range(means[3])} and {changes[1]}"
    ]


def write_row(number: int, finding: Finding) -> dict[str, Any]:
    """Write a group as a row of audit.csv.

    Args:
        number: From 1, the strongest first.
        finding: The group.

    Returns:
        A cell for each of `COLUMNS`; nothing where nothing was measured.
    """
    verdict = "shortcut" if finding.proven else UNPROVABLE if finding.target == ALL else "no effect"
    row: dict[str, Any] = {
        "number": number,
        "verdict": f"same as {finding.same_as}" if finding.same_as else verdict,
        "class": finding.subject,
        "kind": finding.kind,
        "images": len(finding.members),
        "follow": finding.follow,
        "accuracy_with": finding.accuracy[0],
        "accuracy_without": finding.accuracy[1],
        "outside_object": finding.outside,
        "border": finding.border,
        "spread": finding.spread,
        "stability": finding.stability,
        "p": finding.p if finding.effects else math.nan,
        "p_holm": finding.p_holm if finding.effects else math.nan,
        "source": finding.source,
        "reason": finding.reason,
    }
    ranges = {"share": finding.share, "rise": finding.rise, "fall": finding.fall, **finding.effects}
    for name, values in ranges.items():
        row |= {f"{name}{end}": value for end, value in zip(("", "_low", "_high"), values, strict=True)}
    return {key: _round(value) for key, value in row.items()}


def _round(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.4g}"


def _range(values: tuple[float, float, float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*values)


def _percent(values: tuple[float, float, float]) -> str:
    return "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * value for value in values))


def _write_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    shown = ("number", "verdict", "class", "kind", "images", "share", "rise", "fall", "follow", "p_holm", "reason")
    lines = ["| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
    return lines + [
        "| " + " | ".join(str(row.get(key, "")).replace("|", "\\|") for key in shown) + " |" for row in rows
    ]


def _list_files(result: Result, names: Sequence[str]) -> list[dict[str, Any]]:
    """The images of the proven groups, and those that get another class without what lies around the object."""
    pictures, facts = result.pictures, result.facts
    listed: list[tuple[int | str, str, str, int]] = [
        (number, "has what the group shares", each.subject, row)
        for number, each in enumerate(result.findings, 1)
        if each.proven and not each.same_as
        for row in each.members.tolist()
    ]
    predicted = facts.predicted.tolist()
    needed = np.flatnonzero(facts.apart[:, APART.index("changes_without_rest")] == 1).tolist()
    why = "gets another class where all but the object is imputed"
    listed += [("", why, names[predicted[row]], row) for row in needed]
    return [
        {
            "number": number,
            "why": words,
            "class": subject,
            "image": pictures.names[row],
            "path": pictures.paths[row],
            "label": pictures.label_names[row],
            "predicted": names[predicted[row]],
            "probability": f"{facts.probabilities[row, predicted[row]]:.4f}",
        }
        for number, words, subject, row in listed
    ]


def draw_finding(number: int, finding: Finding, result: Result, classifier: Classifier) -> Drawing:
    """Draw the mean image of a group, its mean map, where it lies, and ten of its images.

    Args:
        number: From 1.
        finding: The group.
        result: Of the audit.
        classifier: The network.

    Returns:
        The page.
    """
    pictures, display = result.pictures, classifier.facts.display
    mean = select_display(pictures.average(split_evenly(finding.members, 200)), display)
    high, wide = mean.shape[-2:]
    values = torch.from_numpy(result.facts.maps[finding.members].mean(0))
    enlarged = functional.interpolate(values[None, None], (high, wide), mode="bilinear", align_corners=False)[0, 0]
    side = enlarge_to(high, wide, 160)
    page = create_page(ACROSS, side[1])
    room = page.points(page.width - 2 * MARGIN)
    verdict = "shortcut" if finding.proven else "looked odd, no effect"
    words, whole = f"{WORDS[finding.kind]}, ", "class"
    if finding.target == ALL:
        words, whole, verdict = "evidence at one place, ", "images", UNPROVABLE
    title = f"{number}. {finding.subject}: {words}{count_noun(len(finding.members), 'image')}; {verdict}"
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(title, room, HEADING, True), HEADING, weight="bold")
    lines = [f"share of the {whole} {_percent(finding.share)}"]
    if finding.effects:
        inserted = "" if math.isnan(finding.rise[0]) else f"inserted into others {_range(finding.rise)}, "
        lines.append(f"{inserted}removed {_range(finding.fall)}")
    for line in (*lines, *([finding.reason] if finding.reason else [])):
        y = page.lines(MARGIN, y, wrap(line, room, SMALL), SMALL, MUTED)
    painted = normalise(enlarged, compute_scale(enlarged), False)
    overlay = blend_overlay(mean, painted, build_colour_map("default", "unsigned"))
    where = outline_region(to_rgb(mean), _enlarge(finding.region, (high, wide)))
    first = [
        Cell([("mean image", INK)], to_rgb(mean)),
        Cell([("mean map", INK)], overlay),
        Cell([("where it lies", INK)], where),
    ]
    y = draw_cells(page, y + GAP / 2, first, side, SMALL)
    rows = split_evenly(finding.members, EXAMPLES)
    cells = [
        Cell([(pictures.names[row], INK)], to_rgb(select_display(image, display)))
        for row, image in zip(rows.tolist(), pictures.gather(rows), strict=True)
    ]
    for start in range(0, len(cells), ACROSS):
        y = draw_cells(page, y + GAP / 2, cells[start : start + ACROSS], side, SMALL)
    return page.finish(y + MARGIN * 0.7)


def _enlarge(region: Tensor, size: tuple[int, int]) -> Any:
    values = functional.interpolate(region[None, None].float(), size, mode="nearest")[0, 0]
    return np.asarray(values.numpy() > 0)
