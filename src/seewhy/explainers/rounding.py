"""How much of a score, and of a difference of scores, is rounding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seewhy.core.types import Images, Targets

if TYPE_CHECKING:
    from seewhy.models.batched import BatchedEvaluator
    from seewhy.models.classifier import Classifier


def estimate_relative_rounding(classifier: Classifier, images: Images) -> float:
    """Estimate the rounding of a difference of two outputs, as a share of the largest output.

    A sum of N terms in a precision of unit roundoff u = eps / 2 is off by about sqrt(N) u; a difference of two such sums by
    at most twice that, sqrt(N) eps. N adds up along the network: the inputs of a unit of every layer with weights, and
    log2 of the number of an image's values for what is summed pairwise, as means and pools are. Under autocast products are
    added up in float32, and each layer rounds its result to the shorter type: sqrt(layers) eps more. What it rounds of its
    weights is the same in both passes.
    Higham, Mary: A new approach to probabilistic rounding error analysis, SIAM Journal on Scientific Computing 2019.

    Args:
        classifier: The network.
        images: Float [batch, channels, height, width]: their type is that of the arithmetic, unless autocast is on.

    Returns:
        sqrt(N) eps, and what autocast adds.
    """
    weights = [each for each in classifier.network.parameters() if each.ndim in (2, 4) and len(each)]
    terms = sum(each.numel() // len(each) for each in weights) + math.log2(max(2, images[0].numel()))
    narrow = classifier.narrow if images.dtype == torch.float32 else None
    layers = 0.0 if narrow is None else math.sqrt(len(weights)) * torch.finfo(narrow).eps
    return math.sqrt(terms) * torch.finfo(images.dtype).eps + layers


def bound_score_differences(classifier: Classifier, logits: Tensor, targets: Targets, images: Images) -> Tensor:
    """Bound what rounding makes of a difference of scores, from the outputs of one of the two passes.

    Args:
        classifier: The network.
        logits: Outputs of the network [n, outputs].
        targets: Of each row.
        images: [batch, channels, height, width] of the run.

    Returns:
        sqrt(N) eps * largest |output| * sum of |weights of the target|, [n]: all outputs add up terms of a like size.
    """
    values = targets.values
    weight = values.abs().sum(1).to(logits) if values.is_floating_point() else 1.0
    return logits.abs().amax(1) * weight * estimate_relative_rounding(classifier, images)


def are_independent(classifier: Classifier) -> bool:
    """Ask whether a mean of many scores is bounded by the mean of their roundings or, as of independent ones, by less.

    Float32 can afford the former: its rounding is a thousandth of what is looked for. Under autocast it would leave nothing
    of a map of thousands of passes. What all passes share there, the rounding of weights, makes it the map of another
    network; how far that one is from the float32 map of the same image is for `runs.precision` to report.

    Args:
        classifier: The network.

    Returns:
        Whether roundings of different passes count as independent.
    """
    return classifier.narrow is not None


def compute_scores_with_rounding(
    evaluator: BatchedEvaluator, images: Images, targets: Targets
) -> tuple[Tensor, Tensor]:
    """Compute scores and what rounding may make of their differences.

    Args:
        evaluator: Runs the network in batches of bounded size.
        images: [n, channels, height, width] in [0, 1].
        targets: The target of each image.

    Returns:
        (weights . logits, bound on the rounding of a difference between it and a like score), [n] each.
    """
    logits = evaluator.compute_logits(images)
    return targets.score(logits), bound_score_differences(evaluator.classifier, logits, targets, images)
