"""The passes that cannot be saved."""

from __future__ import annotations

from seewhy.robustness.measure import Measurement


def forward_floor(measurement: Measurement, images: int, explained: int) -> int | None:
    """Forward passes that cannot be saved: one prediction for each version, the explainers' own, the attacks' own.

    None where an explainer's passes are not known beforehand.
    """
    facts, attacks = measurement.classifier.facts, measurement.attacks.values()
    versions = 1 + len(measurement.steps) + sum(len(attack.eps) for attack in attacks)
    total = images * (versions + sum(attack.passes_per_image()[0] for attack in attacks))
    for explainer in measurement.explainers.values():
        cost = explainer.passes_per_image(size=facts.size, classes=len(facts.classes))
        if cost is None:
            return None
        total += explained * versions * cost[0]
    return total
