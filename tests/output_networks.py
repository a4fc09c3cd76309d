"""Networks that differ in what their outputs are and agree in what they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.core.facts import Facts
from seewhy.core.types import Targets
from seewhy.models.cifar_networks import CifarCNN
from seewhy.models.classifier import Classifier


class Outputs(nn.Module):
    """The tutorial network behind a function of its ten logits."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = CifarCNN()
        self.wrap = wrap

    def forward(self, images: Tensor) -> Any:
        return self.wrap(self.body(images))


def classifier_of(wrap: Callable[[Tensor], Any], classes: int, score: str, **options: Any) -> Classifier:
    """A classifier of 32-pixel images around the tutorial network; equal seeds give equal weights."""
    names = tuple(f"class {index}" for index in range(classes))
    facts = Facts(names, 32, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), score=score, **options)
    layers = {"cam_layer": "body.relu2", "influence_layer": "body.relu4"}
    return Classifier(Outputs(wrap).double(), facts, name="outputs", **layers).double().eval()  # type: ignore[arg-type]


def take_logit(outputs: Tensor) -> Tensor:
    """One logit of ten outputs: of a size that probabilities move."""
    return 20 * (outputs[:, 3:4] - outputs[:, 7:8])


def weigh_logit() -> Targets:
    """Targets of two images on ten outputs that are `take_logit` of them."""
    weights = torch.zeros(2, 10, dtype=torch.float64)
    weights[:, 3], weights[:, 7] = 20.0, -20.0
    return Targets(weights)
