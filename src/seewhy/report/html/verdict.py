"""The head of a page: what the runs show, in one sentence with its evidence, and the images to look at first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from seewhy.analyses.robustness.summary import CLEAN, read_means
from seewhy.core.words import count_noun, join_names
from seewhy.plots.text import format_probability
from seewhy.report.comparison import Comparison
from seewhy.report.html.gallery import Gallery, Method
from seewhy.report.leaderboard import NO_BASELINE, format_value
from seewhy.report.runs import Run, read_robustness
from seewhy.report.verdict import Judgement

CONFIDENT = 0.5
"""From this probability on a wrong prediction is called confident."""
CONFLICT = 0.6
"""Over this share of the most supporting tenth two maps contradict each other; of noise about one half does."""
MOST_PARTS = 4
"""Statements of a verdict; metric=all would give one for each score."""
DISAGREEMENT = 0.1
"""Below this agreement the methods show unlike places."""


@dataclass(frozen=True)
class Verdict:
    """What stands first on a page.

    Args:
        sentences: What the scores of each model show, with their evidence.
        tiles: (name, value, note) of accuracy, images, warnings and baseline.
        judgements: Six lines on each method of each model that was measured for them, and what is recommended.
    """

    sentences: list[str]
    tiles: list[tuple[str, str, str]]
    judgements: list[Judgement] = field(default_factory=list)


def build_verdict(
    comparisons: Sequence[Comparison],
    methods: Sequence[Sequence[Method]],
    galleries: Sequence[Gallery],
    judgements: Sequence[Judgement] = (),
) -> Verdict:
    """Build the verdict of a page.

    Args:
        comparisons: Of each model.
        methods: The explainers of each model.
        galleries: Of each model.
        judgements: Of the models whose methods were measured for them.

    Returns:
        The verdict.
    """
    several = len(comparisons) > 1
    sentences = []
    for comparison, explainers in zip(comparisons, methods, strict=True):
        words = " ".join(filter(None, (_judge(comparison, explainers), *map(_judge_robustness, explainers))))
        sentences += [f"{comparison.joined.model}: {words}" if several else words]
    accuracies = [_describe_accuracy(explainers[0].run) for explainers in methods]
    names = [comparison.joined.model for comparison in comparisons]
    value, note = (" / ".join(value for value, _ in accuracies), ", ".join(names)) if several else accuracies[0]
    warned = sum(
        len({row["image"] for row in gallery.facts["images"] if any(row["concerns"])}) for gallery in galleries
    )
    maps = sum(bool(words) for gallery in galleries for row in gallery.facts["images"] for words in row["concerns"])
    baselines = [comparison.joined.control is not None for comparison in comparisons]
    images = comparisons[0].joined.images
    tiles = [
        ("Accuracy", value, note),
        ("Images", f"{images:,}", "intervals are approximate" if images < 30 else "explained"),
        ("Warnings", str(maps), f"on {count_noun(warned, 'image')}" if maps else "no map carries one"),
    ]
    if any(comparison.ranks for comparison in comparisons):  # maps alone are compared with nothing
        advice = "" if all(baselines) else "add explainer=random,..."
        tiles.append(("Random baseline", "yes" if all(baselines) else "no", advice))
    return Verdict(sentences, tiles, list(judgements))


def _judge_robustness(method: Method) -> str:
    """Where accuracy falls most in a robustness run, and how alike the maps of this corruption stay."""
    summary = read_robustness(method.run.folder)
    if summary is None or summary.empty:
        return ""
    values = read_means(summary)
    falls = [(mean, key) for key, mean in values.items() if key[2] == "accuracy" and key[0] != CLEAN]
    if not falls:
        return ""
    worst, (corruption, level, _) = min(falls)
    clean = values.get((CLEAN, 0, "accuracy"), math.nan)
    words = (
        f"Accuracy is {format_probability(clean)} on the clean images and lowest, {format_probability(worst)}, under "
    )
    words += f"{corruption.replace('_', ' ')} at severity {level}"
    alike = values.get((corruption, level, f"{method.run.explainer}_spearman"))
    return words + (f", where maps of {method.label} correlate with the clean ones by {alike:.2f}." if alike else ".")


def _describe_accuracy(run: Run) -> tuple[str, str]:
    right, answers, others = run.count_answers()
    if answers:
        more = f"; {len(others):,} with other labels" if others else ""
        return f"{100 * right / answers:.1f} %", f"{right:,} of {answers:,}{more}"
    return "–", "no label is a class of the network" if others else "no labels"


def _judge(comparison: Comparison, methods: Sequence[Method]) -> str:
    """What the scores of one model show."""
    n, metrics = comparison.joined.images, list(comparison.ranks)
    if not metrics:
        names = join_names([method.label for method in methods])
        images = count_noun(n, "image")
        return f"{names} on {images}: maps alone; no score was measured, so nothing ranks methods."
    if len(methods) == 1 or (comparison.joined.control is None and comparison.pairwise.empty):
        return f"{methods[0].label} was scored on {count_noun(n, 'image')}; {NO_BASELINE}."
    counted = [metric for construct in comparison.constructs for metric in construct.counted or construct.metrics[:1]]
    groups: dict[tuple[str, ...], list[str]] = {}
    for metric in counted:
        leaders = tuple(comparison.list_leaders(metric))
        groups.setdefault(leaders or ("", _explain_no_leader(comparison, metric)), []).append(metric)
    parts = []
    for key, group in sorted(groups.items(), key=lambda item: not item[0][0]):
        scores = _join([metric.replace("_", " ") for metric in group])
        if key[0]:
            verb = "leads" if len(key) == 1 else "lead"
            parts.append(f"{_join(key)} {verb} on {scores}{_show_evidence(comparison, key[0], group[0])}")
        else:
            parts.append(f"on {scores} {key[1]}")
    if len(parts) > MOST_PARTS or len(metrics) > len(counted):
        parts = [*parts[:MOST_PARTS], "further scores are in the tables below"]
    sentence = "; ".join(parts)
    base = "" if comparison.joined.control else f" {NO_BASELINE[0].upper()}{NO_BASELINE[1:]}."
    first = sentence[0] if sentence.startswith(tuple(comparison.explainers)) else sentence[0].upper()
    return f"{first}{sentence[1:]}.{base}"


def _join(names: Sequence[str]) -> str:
    """The names with `and` before the last one; of many the first three and the number of the others."""
    if len(names) > 4:
        return join_names(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _show_evidence(comparison: Comparison, leader: str, metric: str) -> str:
    """The numbers behind a leader: its mean, that of random, and the corrected p of their difference."""
    control = comparison.joined.control
    if control is None:
        return ""
    ours, theirs = (format_value(comparison.get_mean(name, metric)[0]) for name in (leader, control))
    p = float(comparison.leaderboard[f"{metric}_p_random"][leader])
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    name = metric.replace("_", " ")
    rivals = comparison.list_rivals(leader, metric)
    shown += f", but not significantly better than {_join(rivals)}" if rivals else ""
    return f" ({leader}, {name}: {ours} against {theirs} of random, n = {comparison.joined.images}, {shown})"


def _explain_no_leader(comparison: Comparison, metric: str) -> str:
    verdicts = {name: comparison.get_verdict(name, metric) for name in comparison.explainers}
    control = comparison.joined.control
    if control is None:
        return "no method is significantly better than another"
    if set(verdicts.values()) <= {"control", "untested", ""}:
        return "there are too few images for a test against random"
    better = [name for name, verdict in verdicts.items() if verdict == "yes"]
    controls = [name for name in better if comparison.leaderboard["control"][name]]
    methods = [name for name in better if name not in controls]
    if not methods:
        but = f", but the control {_join(controls)} is" if controls else ""
        return f"no method is significantly better than random{but}"
    pairs = comparison.pairwise[(comparison.pairwise["metric"] == metric) & (comparison.pairwise["winner"] != "")]
    losses = pairs[(pairs["winner"] != pairs["explainer"]) & pairs["explainer"].isin(methods)]
    losses = pd.concat([losses, pairs[(pairs["winner"] != pairs["other"]) & pairs["other"].isin(methods)]])
    beaten = set(pairs["explainer"].where(pairs["explainer"] != pairs["winner"], pairs["other"]))
    beaters = [str(name) for name in dict.fromkeys(losses["winner"]) if name not in beaten]
    ours, theirs = "beats" if len(methods) == 1 else "beat", "is" if len(beaters) == 1 else "are"
    return f"no method leads: {_join(methods)} {ours} random, but {_join(beaters)} {theirs} better still"


def rate_suspicion(row: Mapping[str, Any], methods: Sequence[Method]) -> tuple[float, list[str], int | None]:
    """Rate how much an image asks to be looked at.

    Args:
        row: Of the gallery's facts.
        methods: In the order of the page.

    Returns:
        (suspicion, reasons with the weightiest first, position of the method whose map they are about).
    """
    found: list[tuple[float, str, int | None]] = []
    for position, (flaw, concern) in enumerate(zip(row["flaws"], row["concerns"], strict=True)):
        label = methods[position].label
        if flaw and flaw != "no map was stored":
            found.append((4.0, f"{label}: {flaw}", position))
        elif concern:
            found.append(
                (2 + min(row["gap"], 1.0) if row["gap"] == row["gap"] else 3.0, f"{label}: {concern}", position)
            )
    probability = row["probability"]
    if row["correct"] == "no":
        chance = f" with probability {format_probability(probability)}" if probability == probability else ""
        confident = probability == probability and probability >= CONFIDENT
        words = f"{'confidently ' if confident else ''}misclassified{chance}: {row['predicted']} for {row['label']}"
        found.append((3 + probability if confident else 1.5, words, None))
    conflict = row["conflict"]
    if conflict and conflict["share"] > CONFLICT:
        share, of, other = f"{100 * conflict['share']:.0f} %", conflict["of"], conflict["in"]
        words = f"sign conflict: {share} of the top tenth of {of} is negative in {other}"
        position = next(number for number, method in enumerate(methods) if method.label == conflict["of"])
        found.append((2 + conflict["share"], words, position))
    if row["agreement"] == row["agreement"] and row["agreement"] < DISAGREEMENT:
        found.append((1 - row["agreement"], f"methods disagree: agreement {row['agreement']:.2f}", None))
    if not found and probability == probability:
        return max(0.0, (1 - probability) / 2), [f"no warning; probability {format_probability(probability)}"], None
    found.sort(key=lambda each: -each[0])
    suspect = next((place for _, _, place in found if place is not None), None)
    return sum(weight for weight, _, _ in found), [words for _, words, _ in found], suspect
