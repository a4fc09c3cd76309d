"""From a batch and its outputs to explanations: what the command and the Python interface share."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.core.targets import UNKNOWN, choose_targets
from seewhy.core.types import Batch, Explanation, Prediction, Skipped, Target, Targets
from seewhy.explainers.base import Explainer
from seewhy.models.classifier import Classifier

TOP = 5
"""Classes that a prediction lists."""


def build_predictions(classifier: Classifier, batch: Batch, logits: Tensor) -> list[Prediction]:
    """Build what the classifier says of each image.

    Args:
        classifier: Knows its classes and what its outputs mean.
        batch: Images with their true classes.
        logits: Outputs of the network, [batch, classes].

    Returns:
        A prediction for each image, with the probabilities of the five likeliest classes.
    """
    classes = classifier.facts.classes
    probabilities, order = classifier.facts.compute_probabilities(logits.float()).topk(min(TOP, len(classes)), dim=1)
    predictions = []
    for top, indices, label, words in zip(
        probabilities.tolist(), order.tolist(), batch.labels.tolist(), batch.label_names, strict=True
    ):
        ranked = tuple((classes[index], value) for index, value in zip(indices, top, strict=True))
        correct = None if label == UNKNOWN else label == indices[0]
        predictions.append(Prediction(indices[0], classes[indices[0]], top[0], ranked, words, correct))
    return predictions


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
    result = explainer.attribute(classifier, batch.images[rows], targets[rows])
    predictions = build_predictions(classifier, batch, logits)
    probabilities = Targets(targets.clamp_min(0)).score(classifier.facts.compute_probabilities(logits.float())).tolist()
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
