"""Clean maps that another callback made already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from seewhy.explainers.base import Explainer
from seewhy.types import Attributions, Batch, Targets


def known_maps(
    outputs: Mapping[str, Any], batch: Batch, targets: Targets, explainers: Mapping[str, Explainer]
) -> dict[str, Attributions]:
    """The maps of each explainer whose explanations of the first images, for just these targets, lie in `outputs`."""
    made = {one.name: one for one in outputs.get("explanations", [])}
    shared = [made[name] for name in batch.names[: len(targets)] if name in made]
    if not shared or len(shared) < len(targets):
        return {}
    found = {}
    for key, explainer in explainers.items():
        wanted = [(explainer.name, explainer.parameters, target) for target in targets.tolist()]
        if wanted == [(one.explainer, one.parameters, one.target.index) for one in shared]:
            found[key] = torch.stack([one.attribution for one in shared]).to(targets.device)
    return found
