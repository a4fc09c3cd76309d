"""From a batch and its outputs to explanations: what the command and the Python interface share."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from seewhy.core.facts import Facts
from seewhy.core.outputs import list_labels
from seewhy.core.targets import UNKNOWN, choose_targets
from seewhy.core.types import Batch, Explanation, Prediction, Skipped, Target, Targets
from seewhy.explainers.base import Explainer
from seewhy.models.classifier import Classifier

TOP = 5
"""Classes that a prediction lists."""
NO_LABEL = "no label"
"""The words for a prediction in which no label is above the threshold."""


def build_predictions(classifier: Classifier, batch: Batch, logits: Tensor) -> list[Prediction]:
    """Build what the classifier says of each image.

    Args:
        classifier: Knows its classes and what its outputs mean.
        batch: Images with their true classes.
        logits: Outputs of the network, [batch, classes].

    Returns:
        A prediction for each image, with the probabilities of the five likeliest classes, or the five largest outputs of
        a network without probabilities.
    """
    facts = classifier.facts
    probabilities = facts.compute_probabilities(logits.float())
    values, order = probabilities.topk(min(TOP, len(facts.classes)), dim=1)
    labels = facts.mark_labels(batch.labels).tolist()
    rows = zip(probabilities, values.tolist(), order.tolist(), labels, batch.label_names, strict=True)
    predictions = []
    for row, top, indices, label, words in rows:
        ranked = tuple((facts.classes[index], value) for index, value in zip(indices, top, strict=True))
        likeliest = Prediction(
            index=indices[0],
            name=facts.classes[indices[0]],
            probability=top[0] if facts.has_probabilities else math.nan,
            top=ranked,
            label=words,
        )
        if facts.score == "sigmoid":
            predictions.append(_add_labels(likeliest, facts, row.tolist(), label))
        else:
            correct = None if label == UNKNOWN or not facts.has_probabilities else label == likeliest.index
            predictions.append(replace(likeliest, correct=correct))
    return predictions


def _add_labels(likeliest: Prediction, facts: Facts, probabilities: list[float], marks: list[int]) -> Prediction:
    """The prediction of several labels: those above the threshold, of which all must be the true ones to be correct."""
    predicted, classes = list_labels(probabilities, facts.threshold), facts.classes
    true = None if UNKNOWN in marks else [index for index, mark in enumerate(marks) if mark > 0]
    wrong = None if true is None else len(set(predicted) ^ set(true))
    names = tuple(classes[index] for index in predicted)
    return replace(
        likeliest,
        name=", ".join(names) or NO_LABEL,
        labels=names,
        true_labels=None if true is None else tuple(classes[index] for index in true),
        correct=None if wrong is None else not wrong,
        label_accuracy=None if wrong is None else 1 - wrong / len(classes),
    )


def explain_batch(
    classifier: Classifier, batch: Batch, logits: Tensor, explainer: Explainer, policy: str | int
) -> tuple[list[Explanation], list[Skipped]]:
    """Explain the images of a batch.

    Args:
        classifier: The network to explain.
        batch: Images with their true classes.
        logits: Outputs of the network, [batch, classes].
        explainer: The method.
        policy: Which class to explain: predicted, label, runner_up and so on, a class name or an index.

    Returns:
        (an explanation for each image, images without the target that the policy asks for).
    """
    targets = choose_targets(policy, logits, batch.labels, classifier.facts.classes)
    with_target = (targets != UNKNOWN).nonzero().flatten().tolist()
    reason = f"its true class is unknown to the network, and target={policy}"
    skipped = [Skipped(batch.paths[row], reason) for row in range(len(targets)) if row not in set(with_target)]
    if not with_target:
        return [], skipped
    rows = torch.tensor(with_target, device=targets.device)
    explainer = explainer.resolve(classifier, (batch.images.shape[2], batch.images.shape[3]))
    result = explainer.attribute(classifier, batch.images[rows], targets[rows])
    predictions = build_predictions(classifier, batch, logits)
    probabilities = Targets(targets.clamp_min(0)).score(classifier.facts.report_probabilities(logits.float())).tolist()
    explanations = []
    for position, row in enumerate(with_target):
        index, attribution = int(targets[row]), result.maps[position].cpu()
        facts = {key: float(values[position]) for key, values in result.facts.items()}
        explanation = Explanation(
            name=batch.names[row],
            path=batch.paths[row],
            image=batch.images[row].detach().cpu(),
            prediction=predictions[row],
            target=Target(index, classifier.facts.classes[index], probabilities[row], str(policy)),
            attribution=attribution,
            explainer=explainer.name,
            parameters=explainer.parameters,
            signed=explainer.signed,
            classifier=f"{classifier.name} ({classifier.origin})",
            facts=facts,
            warnings=find_warnings(explainer, attribution, facts),
            display=classifier.facts.display,
        )
        explanations.append(explanation)
    return explanations, skipped


def find_warnings(explainer: Explainer, attribution: Tensor, facts: dict[str, float]) -> tuple[str, ...]:
    """Find what a reader must know before trusting a map.

    Args:
        explainer: The method.
        attribution: Float [height, width].
        facts: Numbers about the map.

    Returns:
        A sentence for each.
    """
    warnings = []
    if not bool(attribution.isfinite().all()):
        warnings.append(f"the map has {int((~attribution.isfinite()).sum())} values that are not finite")
    elif not bool(attribution.any()):
        warnings.append(_describe_zero(facts))
    elif attribution.numel() > 1 and bool((attribution == attribution.flatten()[0]).all()):
        warnings.append("the map is the same everywhere: it says nothing about where")
    return (*warnings, *explainer.list_warnings(facts))


def _describe_zero(facts: dict[str, float]) -> str:
    if not facts.get("largest"):
        return "the map is zero everywhere"
    return (
        f"the map counts as zero: its largest value {facts['largest']:.1g} lies below the floor of rounding "
        f"{facts['floor']:.1g}"
    )
