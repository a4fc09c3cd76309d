"""Choosing the class of each image that is explained: by policy, index or name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Classes

POLICIES = ("predicted", "true", "runner_up")
"""Targets that depend on the image: the likeliest class, the true one, and the second likeliest."""
UNKNOWN = -1
"""Index of a true class that is unknown, or unknown to the network."""


def check_policy(policy: str | int, classes: Sequence[str]) -> int | None:
    """Find the class that a policy names, if it names one.

    Args:
        policy: One of `POLICIES`, or a class by index or by name (case and underscores do not matter).
        classes: The names of the network's classes.

    Returns:
        The index of the class; None for one of `POLICIES`.

    Raises:
        UserError: There is no such class; the message has the nearest names.
    """
    if policy in POLICIES:
        return None
    text = str(policy)
    if text.lstrip("-").isdigit():
        if not 0 <= int(text) < len(classes):
            raise UserError(
                f"target={policy} must be from 0 to {len(classes) - 1}: the network has {len(classes)} classes"
            )
        return int(text)
    return find_class(text, classes)


def find_class(name: str, classes: Sequence[str]) -> int:
    """Find a class by its name.

    Args:
        name: The name; case, underscores and hyphens do not matter.
        classes: The names of the network's classes.

    Returns:
        The index of the class.

    Raises:
        UserError: There is no such class; the message has the nearest names.
    """
    names = [_simplify(each) for each in classes]
    if _simplify(name) in names:
        return names.index(_simplify(name))
    near = _find_nearest(_simplify(name), [*POLICIES, *classes])
    hint = f"nearest: {', '.join(near)}" if near else f"its first are {', '.join(classes[:4])}"
    raise UserError(
        f"target={name!r} is none of {', '.join(POLICIES)}, an index, or one of the network's {len(classes)} classes; {hint}"
    )


def _find_nearest(name: str, candidates: Sequence[str]) -> list[str]:
    """Up to four candidates that are most like a name as a whole or in one word: `shrak` is like `tiger shark`.

    Policies come first.
    """

    def rate(words: str) -> float:
        parts = {words, words.replace(" ", ""), *words.split()}
        return max(difflib.SequenceMatcher(None, name, part).ratio() for part in parts)

    rates = [rate(_simplify(candidate)) for candidate in candidates]
    rates = [each + (each >= 0.7 and name in POLICIES) for each, name in zip(rates, candidates, strict=True)]
    order = sorted(range(len(candidates)), key=lambda position: (-rates[position], position))
    return [candidates[position] for position in order[:4] if rates[position] >= 0.6]


def _simplify(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ").strip()


def find_true_classes(labels: Tensor, scores: Tensor) -> Classes:
    """Find the true class of each image: the likeliest where several labels are true.

    Args:
        labels: int64 [batch], the true classes, -1 where one is unknown; or [batch, classes], 1 where a label is true.
        scores: What the classifier gives [batch, classes].

    Returns:
        int64 [batch]; -1 where nothing is known, or no label is true.
    """
    if labels.ndim == 1:
        return labels.clone()
    likeliest = scores.masked_fill(labels <= 0, -torch.inf).argmax(1)
    return likeliest.masked_fill(~(labels > 0).any(1), UNKNOWN)


def choose_targets(policy: str | int, logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Classes:
    """Choose the class of each image that is explained.

    Args:
        policy: See `check_policy`; `runner_up` is the class with the second largest logit.
        logits: [batch, classes].
        labels: int64 [batch], the true classes, -1 where one is unknown; or [batch, classes], see `find_true_classes`.
        classes: The names of the network's classes.

    Returns:
        int64 [batch]; -1 where the policy is `true` and the label is unknown.
    """
    index = check_policy(policy, classes)
    if index is not None:
        return torch.full_like(logits[:, 0], index, dtype=torch.int64)
    if policy == "true":
        return find_true_classes(labels, logits)
    ranked = logits.topk(min(2, logits.shape[1]), dim=1).indices
    return ranked[:, -1] if policy == "runner_up" else ranked[:, 0]
