"""From a batch and its logits to explanations: what the command and the Python interface share."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.core.targets import UNKNOWN, choose_targets
from seewhy.core.types import Batch, Explanation, Prediction, Skipped, Target, Targets
from seewhy.explainers.base import AttributionResult, CompleteExplainer, Explainer, describe_completeness_gap
from seewhy.models.classifier import Classifier


def build_predictions(classifier: Classifier, batch: Batch, logits: Tensor) -> list[Prediction]:
    """What the classifier says of each image, with the probabilities of its classes."""
    classes = classifier.facts.classes
    probabilities, order = classifier.facts.compute_probabilities(logits.float()).topk(min(5, len(classes)), dim=1)
    made = []
    for top, indices, label, words in zip(
        probabilities.tolist(), order.tolist(), batch.labels.tolist(), batch.label_names, strict=True
    ):
        ranked = tuple((classes[index], value) for index, value in zip(indices, top, strict=True))
        correct = None if label == UNKNOWN else label == indices[0]
        made.append(Prediction(indices[0], classes[indices[0]], top[0], ranked, words, correct))
    return made


def explain_batch(
    classifier: Classifier, batch: Batch, logits: Tensor, explainer: Explainer, policy: str | int
) -> tuple[list[Explanation], list[Skipped]]:
    """(one explanation per image, images without the target that the policy asks for)."""
    targets = choose_targets(policy, logits, batch.labels, classifier.facts.classes)
    known = (targets != UNKNOWN).nonzero().flatten().tolist()
    reason = f"its true class is unknown to the network, and target={policy}"
    skipped = [Skipped(batch.paths[row], reason) for row in range(len(targets)) if row not in set(known)]
    if not known:
        return [], skipped
    rows = torch.tensor(known, device=targets.device)
    attributed = explainer.attribute(classifier, batch.images[rows], targets[rows])
    said = build_predictions(classifier, batch, logits)
    probabilities = Targets(targets.clamp_min(0)).score(classifier.facts.compute_probabilities(logits.float())).tolist()
    made = []
    for position, row in enumerate(known):
        index = int(targets[row])
        target = Target(index, classifier.facts.classes[index], probabilities[row], str(policy))
        made.append(_explanation(classifier, batch, row, said[row], target, explainer, attributed, position))
    return made, skipped


def _explanation(
    classifier: Classifier,
    batch: Batch,
    row: int,
    prediction: Prediction,
    target: Target,
    explainer: Explainer,
    attributed: AttributionResult,
    position: int,
) -> Explanation:
    attribution = attributed.maps[position].cpu()
    facts = {key: float(values[position]) for key, values in attributed.facts.items()}
    return Explanation(
        name=batch.names[row],
        path=batch.paths[row],
        image=batch.images[row].detach().cpu(),
        prediction=prediction,
        target=target,
        attribution=attribution,
        explainer=explainer.name,
        parameters=explainer.parameters,
        signed=explainer.signed,
        classifier=f"{classifier.name} ({classifier.origin})",
        facts=facts,
        warnings=find_warnings(explainer, attribution, facts),
    )


def find_warnings(explainer: Explainer, attribution: Tensor, facts: dict[str, float]) -> tuple[str, ...]:
    """What a reader must know before trusting the map."""
    found = []
    if not bool(attribution.isfinite().all()):
        found.append(f"the map has {int((~attribution.isfinite()).sum())} values that are not finite")
    elif not bool(attribution.any()):
        found.append("the map is zero everywhere")
    if isinstance(explainer, CompleteExplainer):
        gap = describe_completeness_gap(facts["completeness_gap_relative"], explainer.tolerance)
        found += [gap] if gap else []
    return tuple(found)
