"""What the outputs of a network mean: class scores, probabilities, predicted labels and losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seewhy.core.errors import UserError, check_choice

if TYPE_CHECKING:
    from torch import Tensor

SCORES = ("softmax", "sigmoid", "binary", "none")
"""What the outputs of a network can mean.

`softmax`: logits of classes that exclude each other. `sigmoid`: a logit for each label, of which an image may have several.
`binary`: the one logit of the second of two classes. `none`: values as they are, such as units of an embedding.
"""


def expand_binary(outputs: Tensor, gives_probabilities: bool) -> Tensor:
    """Write the one output of a binary network as a score for each of its two classes.

    Args:
        outputs: The logit z, or the probability p, of the second class [n, 1].
        gives_probabilities: Whether it is the probability.

    Returns:
        (-z, z), or (1 - p, p), [n, 2].
    """
    import torch

    return torch.cat([1 - outputs if gives_probabilities else -outputs, outputs], -1)


def compute_probabilities(scores: Tensor, meaning: str, gives_probabilities: bool = False) -> Tensor:
    """Compute the probability of each class or label.

    Args:
        scores: A score for each class [..., classes]; of a binary network those of `expand_binary`.
        meaning: One of `SCORES`.
        gives_probabilities: Whether the network gives probabilities itself.

    Returns:
        [..., classes]: they sum to 1 under `softmax` and `binary`, are independent under `sigmoid`, and are the scores
        as they are under `none` or where the network gives probabilities itself.
    """
    if meaning == "none" or gives_probabilities:
        return scores
    return scores.softmax(-1) if meaning == "softmax" else scores.sigmoid()


def compute_losses(scores: Tensor, labels: Tensor, meaning: str, gives_probabilities: bool = False) -> Tensor:
    """Compute the loss of each image.

    The loss is -log p of the true class, or of one label of several; the mean over all labels of the binary
    cross-entropy where `labels` says of every label whether it is true; and -score of the class under `none`.

    Args:
        scores: A score for each class [n, classes]; of a binary network those of `expand_binary`.
        labels: int64 [n], or 0 and 1 for every label [n, classes].
        meaning: One of `SCORES`.
        gives_probabilities: Whether the network gives probabilities itself.

    Returns:
        [n], with its graph.
    """
    import torch
    from torch.nn import functional

    if meaning == "none":
        return -scores.gather(1, labels[:, None])[:, 0]
    if labels.ndim == 2:
        compare = (
            functional.binary_cross_entropy if gives_probabilities else functional.binary_cross_entropy_with_logits
        )
        return compare(scores, labels.to(scores), reduction="none").mean(1)
    if gives_probabilities:
        return -scores.clamp_min(torch.finfo(scores.dtype).tiny).log().gather(1, labels[:, None])[:, 0]
    if meaning == "softmax":
        return functional.cross_entropy(scores, labels, reduction="none")
    return -functional.logsigmoid(scores.gather(1, labels[:, None])[:, 0])


def settle_classes(classes: Sequence[str], score: str | None) -> tuple[tuple[str, ...], str]:
    """Settle the class names of a network and what its outputs mean.

    One name alone belongs to a network of one logit: its two classes are `not <name>` and `<name>`, or `class 0` and
    `class 1` where only their number was given.

    Args:
        classes: The names that were given.
        score: One of `SCORES`; None: `binary` for one name, else `softmax`.

    Returns:
        (the name of each class, what the outputs mean).

    Raises:
        UserError: There is no such meaning, or its number of classes is another.
    """
    names = tuple(classes)
    if score is not None:
        check_choice("model.score", score, SCORES)
    if score is None:
        score = "binary" if len(names) == 1 else "softmax"
    if score == "binary" and len(names) == 1:
        names = ("class 0", "class 1") if names == ("class 0",) else (f"not {names[0]}", names[0])
    if score == "binary" and len(names) != 2:
        raise UserError(
            f"model.score=binary is for one logit and two classes, but model.classes names {len(names)}: name two, or set "
            "model.score=softmax or sigmoid"
        )
    if score == "softmax" and len(names) == 1:
        raise UserError(
            f"model.score=softmax of one class ({names[0]!r}) is 1 for every image: set model.score=binary, or name all "
            "classes in model.classes"
        )
    return names, score


def list_labels(probabilities: Sequence[float], threshold: float) -> list[int]:
    """List the labels whose probability is above a threshold.

    Args:
        probabilities: Of each label.
        threshold: In [0, 1].

    Returns:
        Their indices, the likeliest first.
    """
    above = [index for index, probability in enumerate(probabilities) if probability > threshold]
    return sorted(above, key=lambda index: -probabilities[index])
