"""Quantities of interest: the score, or the difference of two scores, that influence is measured on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.errors import UserError
from seewhy.targets import class_index
from seewhy.types import Targets


def compared_class(
    against: str | int | None, logits: Tensor, targets: Targets, classes: Sequence[str]
) -> Tensor | None:
    """int64 [batch]: the class whose score is taken off the target's, None where there is none.

    `against` is an index, a name, or `runner_up`: the class other than the target with the largest of logits
    [batch, classes].
    """
    if against is None:
        return None
    if against == "runner_up":
        return logits.scatter(1, targets[:, None], -torch.inf).argmax(1)
    text = str(against)
    try:
        index = int(text) if text.isdigit() else class_index(text, classes)
    except UserError as error:
        raise UserError(f"explainer.against={against}: {error}") from error
    if index >= len(classes):
        raise UserError(f"explainer.against={index} must be from 0 to {len(classes) - 1}, or a class name")
    return torch.full_like(targets, index)


def difference_of_scores(targets: Targets, against: Tensor | None, classes: int) -> Tensor:
    """Weights [n, classes] of q: the target's logit, or the target's less that of `against` [n]."""
    weights = functional.one_hot(targets, classes).float()
    return weights if against is None else weights - functional.one_hot(against, classes).float()
