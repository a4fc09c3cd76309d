"""Every explainer of the configs, and what a call must leave as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from seewhy.core.errors import Incompatible
from seewhy.explainers.base import Explainer
from seewhy.models.classifier import Classifier

YAMLS = sorted((Path(__file__).parents[1] / "configs" / "explainer").glob("*.yaml"))
CHEAP = {"n_steps": 4, "n_samples": 4, "n_masks": 16, "n_segments": 6}
"""Smaller settings for the fields that only decide the cost."""

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
    root: Any = OmegaConf.create({"seed": 0, "probe_batch_size": 5, "explainer": OmegaConf.load(path)})
    for config in (root.explainer, root.explainer.get("explainer") or {}, root.explainer.get("options") or {}):
        for key, value in CHEAP.items():
            if (
                key in config and isinstance(config[key], int) and "distribution" not in config
            ):  # an expert walks no path
                config[key] = value
    return instantiate(root.explainer, _convert_="object")


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
