"""Which class of each image is explained."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Classes

POLICIES = ("predicted", "true", "runner_up")
UNKNOWN = -1


def check_policy(policy: str | int, classes: Sequence[str]) -> int | None:
    """The index of the class that `policy` names, or None for predicted, true and runner_up.

    A class can be given by index or by name (case and underscores do not matter); UserError with the nearest names
    otherwise.
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
    """The index of the class called `name`; UserError with the nearest names where there is none."""
    plain = [_plain(known) for known in classes]
    if _plain(name) in plain:
        return plain.index(_plain(name))
    near = [classes[plain.index(match)] for match in difflib.get_close_matches(_plain(name), plain, n=4, cutoff=0.5)]
    raise UserError(
        f"target={name!r} is none of {', '.join(POLICIES)}, an index, or one of the network's {len(classes)} classes; "
        f"nearest: {', '.join(near) or ', '.join(classes[:4])}"
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ").strip()


def choose_targets(policy: str | int, logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Classes:
    """int64 [batch] from logits [batch, classes] and labels [batch]; -1 where `true` is asked and the label is unknown.

    `runner_up` is the class with the second largest logit.
    """
    index = check_policy(policy, classes)
    if index is not None:
        return torch.full_like(labels, index)
    if policy == "true":
        return labels.clone()
    ranked = logits.topk(min(2, logits.shape[1]), dim=1).indices
    return ranked[:, -1] if policy == "runner_up" else ranked[:, 0]
