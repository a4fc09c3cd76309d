"""Every explainer of the configs, and what a call must leave as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from network_kinds import build_explainer
from torch import Tensor

from seewhy.core.errors import Incompatible
from seewhy.explainers.base import Explainer
from seewhy.models.classifier import Classifier

YAMLS = sorted((Path(__file__).parents[1] / "configs" / "explainer").glob("*.yaml"))
REFUSED = {
    "attention_gradient": "computes no attention",
    "attention_rollout": "computes no attention",
    "le_grad": "computes no attention",
}
"""Methods that refuse a network of convolutions, with any outputs; no other may."""


def maps_of(explainer: Explainer, classifier: Classifier, images: Tensor, targets: Any) -> Tensor:
    """The maps of a network of convolutions; ends the test well where one of `REFUSED` refuses it as it must."""
    if explainer.name not in REFUSED:
        return explainer(classifier, images, targets)
    before = state_of(classifier)
    with pytest.raises(Incompatible, match=REFUSED[explainer.name]):
        explainer(classifier, images, targets)
    assert_same(before, state_of(classifier))
    pytest.skip("refused, as it must be")


def explainer_of(path: Path) -> Explainer:
    explainer: Explainer = build_explainer(path, probe_batch_size=5)
    return explainer


def state_of(classifier: Classifier) -> dict[str, Any]:
    modules = dict(classifier.named_modules())
    return {
        "weights": copy.deepcopy(classifier.state_dict()),
        "modes": {name: module.training for name, module in modules.items()},
        "trainable": {name: parameter.requires_grad for name, parameter in classifier.named_parameters()},
        "gradients": {name: parameter.grad for name, parameter in classifier.named_parameters()},
        "hooks": {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for name, module in modules.items()
        },
        "types": {name: type(module) for name, module in modules.items()},
        "random": torch.get_rng_state().clone(),
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key in before:
        if key == "weights":
            assert all(torch.equal(before[key][name], after[key][name]) for name in before[key]), key
        elif key == "random":
            assert torch.equal(before[key], after[key]), key
        else:
            assert before[key] == after[key], key
