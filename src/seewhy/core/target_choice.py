"""Targets as a user writes them: one or several, classes, policies, every predicted label, and contrasts."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.outputs import list_labels
from seewhy.core.targets import POLICIES, UNKNOWN, check_policy, choose_targets
from seewhy.core.types import Target, Targets

LABELS = "labels"
"""The target that is every predicted label; where classes exclude each other, the predicted class."""
SEPARATOR = "@"
"""Between the name of an image and its target, where several are explained: no name of an image holds it."""
LONGEST_SUFFIX = 48
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"


class Term(NamedTuple):
    """One class of a contrast, with its weight."""

    weight: float
    policy: str | int
    """One of `POLICIES`, or the index of a class."""


@dataclass(frozen=True)
class TargetChoice:
    """One target as it was written."""

    words: str
    """As it was written, such as `predicted - runner_up`."""
    terms: tuple[Term, ...]
    """The classes that it weighs; none: every predicted label."""

    @property
    def is_contrast(self) -> bool:
        """Whether it weighs several outputs, or one by another weight than 1."""
        return len(self.terms) > 1 or any(term.weight != 1 for term in self.terms)


@dataclass(frozen=True)
class ChosenTargets:
    """The targets of some images of a batch under one choice."""

    rows: list[int]
    """The images; an image with several labels stands here several times."""
    targets: Targets
    """Of each of them."""
    described: list[Target]
    """The same in words."""
    left_out: list[tuple[int, str]]
    """(image, why it has no such target)."""


def parse_targets(target: object, classes: Sequence[str]) -> list[TargetChoice]:
    """Read what is to be explained.

    A class by name or index, one of `POLICIES`, `labels`, a contrast of classes and policies such as
    `dog - 0.5*cat` (signs stand between spaces, as names may hold hyphens), or a list of those.

    >>> [choice.terms for choice in parse_targets(["predicted", "dog - 0.5*cat"], ("cat", "dog"))]
    [(Term(weight=1.0, policy='predicted'),), (Term(weight=1.0, policy=1), Term(weight=-0.5, policy=0))]

    Args:
        target: What was set.
        classes: The names of the network's classes.

    Returns:
        A choice for each target, in their order.

    Raises:
        UserError: One of them names no class, or stands there twice; the message has the nearest names.
    """
    entries = list(target) if isinstance(target, Sequence) and not isinstance(target, str) else [target]
    if not entries:
        raise UserError("target=[] names nothing to explain: give a class, a policy, or a list of those")
    choices = [_parse_target(entry, classes) for entry in entries]
    words = [choice.words for choice in choices]
    for choice in words:
        if words.count(choice) > 1:
            raise UserError(f"target=[{', '.join(words)}] names {choice!r} twice")
    return choices


def describe_target(target: object) -> str:
    """Describe what is explained.

    Args:
        target: What was set: one target or several.

    Returns:
        The targets as they were written, joined by commas.
    """
    entries = list(target) if isinstance(target, Sequence) and not isinstance(target, str) else [target]
    return ", ".join("true" if entry is True else str(entry) for entry in entries)


def _parse_target(entry: object, classes: Sequence[str]) -> TargetChoice:
    words = "true" if entry is True else str(entry).strip()  # a command line's target=true is a boolean
    if words == LABELS:
        return TargetChoice(words, ())
    pieces = re.split(r"\s+([+-])\s+", words)
    factored = [re.fullmatch(rf"({NUMBER})\s*\*\s*(.+)", piece) for piece in pieces[::2]]
    if words in classes or (len(pieces) == 1 and factored[0] is None):
        return TargetChoice(words, (_parse_term(1.0, words, classes, words),))
    terms = []
    for sign, piece, match in zip(["+", *pieces[1::2]], pieces[::2], factored, strict=True):
        weight = float(match[1]) if match else 1.0
        if not math.isfinite(weight) or not weight:
            raise UserError(f"target={words!r} weighs {piece!r} by {weight:g}: give a number other than 0")
        terms.append(_parse_term(-weight if sign == "-" else weight, match[2] if match else piece, classes, words))
    return TargetChoice(words, tuple(terms))


def _parse_term(weight: float, word: str, classes: Sequence[str], words: str) -> Term:
    if word == LABELS and words != LABELS:
        raise UserError(f"target={words!r}: labels are explained one by one and stand in no contrast")
    try:
        index = check_policy(word, classes)
    except UserError as error:
        raise UserError(f"target={words!r}: {error}" if word != words else str(error)) from None
    return Term(weight, word if index is None else index)


def choose(choice: TargetChoice, scores: Tensor, labels: Tensor, facts: Facts) -> ChosenTargets:
    """Choose the targets of a batch.

    Args:
        choice: What is to be explained.
        scores: What the classifier gives [batch, classes].
        labels: The true classes, as `Batch.labels` holds them.
        facts: Names of the classes and meaning of the scores.

    Returns:
        The targets, and the images without one.
    """
    if not choice.terms and facts.score == "sigmoid":
        return _choose_labels(choice, scores, facts)
    policies = [term.policy for term in choice.terms] or [POLICIES[0]]
    columns = [choose_targets(policy, scores, labels, facts.classes) for policy in policies]
    known = torch.stack([column != UNKNOWN for column in columns]).all(0)
    reason = f"its true class is unknown to the network, and target={choice.words}"
    left_out = [(row, reason) for row in (~known).nonzero().flatten().tolist()]
    rows: list[int] = known.nonzero().flatten().tolist()
    if not choice.is_contrast:
        return _choose_classes(choice, rows, [int(columns[0][row]) for row in rows], left_out, scores, facts)
    described, weights = [], []
    for row in list(rows):
        sums: dict[int, float] = {}
        for term, column in zip(choice.terms, columns, strict=True):
            sums[int(column[row])] = sums.get(int(column[row]), 0.0) + term.weight
        weighed = tuple((index, weight) for index, weight in sums.items() if weight)
        if weighed:
            described.append(_describe_contrast(choice, weighed, facts))
            weights.append(build_weights(weighed, len(facts.classes)))
        else:
            rows.remove(row)
            left_out.append((row, f"target={choice.words} weighs {facts.classes[int(columns[0][row])]} against itself"))
    values = torch.stack(weights).to(scores.device) if weights else scores.new_zeros(0, len(facts.classes))
    return ChosenTargets(rows, Targets(values), described, left_out)


def build_weights(weighed: Sequence[tuple[int, float]], classes: int) -> Tensor:
    """Build the weights of one contrast.

    Args:
        weighed: (index, weight) of each class.
        classes: The number of classes.

    Returns:
        float64 [classes].
    """
    weights = torch.zeros(classes, dtype=torch.float64)
    for index, weight in weighed:
        weights[index] += weight
    return weights


def _choose_labels(choice: TargetChoice, scores: Tensor, facts: Facts) -> ChosenTargets:
    rows, indices, left_out = [], [], []
    for row, probabilities in enumerate(facts.compute_probabilities(scores.float()).tolist()):
        predicted = list_labels(probabilities, facts.threshold)
        rows += [row] * len(predicted)
        indices += predicted
        if not predicted:
            left_out.append((row, f"no label is above model.threshold={facts.threshold:g}, and target={choice.words}"))
    return _choose_classes(choice, rows, indices, left_out, scores, facts)


def _choose_classes(
    choice: TargetChoice,
    rows: list[int],
    indices: list[int],
    left_out: list[tuple[int, str]],
    scores: Tensor,
    facts: Facts,
) -> ChosenTargets:
    targets = torch.tensor(indices, dtype=torch.int64, device=scores.device)
    values = Targets(targets).score(facts.report_probabilities(scores[rows].float())).tolist() if rows else []
    described = [
        Target(index, facts.classes[index], value, choice.words) for index, value in zip(indices, values, strict=True)
    ]
    return ChosenTargets(rows, Targets(targets), described, left_out)


def _describe_contrast(choice: TargetChoice, weighed: tuple[tuple[int, float], ...], facts: Facts) -> Target:
    """The contrast with the names of its classes; it has no index and no probability."""
    text = ""
    for index, weight in weighed:
        sign = (" - " if weight < 0 else " + ") if text else ("-" if weight < 0 else "")
        text += sign + ("" if abs(weight) == 1 else f"{abs(weight):g}*") + facts.classes[index]
    return Target(UNKNOWN, text, math.nan, choice.words, weighed)


def name_image(name: str) -> str:
    """Name the image of an explanation.

    Args:
        name: Of the explanation: an image, or an image and its target.

    Returns:
        The name without the target.
    """
    return name.partition(SEPARATOR)[0]


def name_suffix(words: str) -> str:
    """Name a target as a part of file names.

    Args:
        words: The target as it was written, or the name of a label.

    Returns:
        Letters, digits, `.`, `_`, `+` and `-`; different for different words.
    """
    spaced = words.replace(" ", "_")
    safe = "".join(letter if letter.isalnum() or letter in "._+-" else "_" for letter in spaced)
    short = safe.encode()[:LONGEST_SUFFIX].decode(errors="ignore")
    return short if short == words else f"{short}_{hashlib.sha256(words.encode()).hexdigest()[:6]}"
