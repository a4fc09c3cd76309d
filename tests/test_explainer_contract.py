"""What holds for every method: shapes, determinism, and a classifier that is left as it was."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seewhy.classifier import Classifier, Passes
from seewhy.errors import Incompatible, UserError
from seewhy.explainers.base import Explainer
from seewhy.explainers.occlusion import Occlusion
from tiny import random_images, small_cnn

YAMLS = sorted((Path(__file__).parents[1] / "configs" / "explainer").glob("*.yaml"))
CHEAP = {"n_steps": 4, "n_samples": 4, "n_masks": 16, "n_segments": 6, "steps": 4, "x_steps": 4}
"""Smaller settings for the fields that only decide the cost."""


def explainer_of(path: Path) -> Explainer:
    root: Any = OmegaConf.create({"seed": 0, "probe_batch_size": 5, "explainer": OmegaConf.load(path)})
    for config in (root.explainer, root.explainer.get("explainer") or {}):
        for key, value in CHEAP.items():
            if key in config and isinstance(config[key], int):
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


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_yaml_gives_a_map_and_leaves_nothing_behind(path: Path) -> None:
    explainer, classifier = explainer_of(path), small_cnn()
    assert explainer.name == path.stem
    images, targets = random_images(2, 32), torch.tensor([3, 7])
    before = state_of(classifier)
    try:
        with torch.inference_mode():
            maps = explainer(classifier, images, targets)
    except Incompatible as refused:
        assert len(str(refused)) > 40, "a refusal names the module and an alternative"
        assert_same(before, state_of(classifier))
        return
    assert maps.shape == (2, 32, 32)
    assert maps.dtype == torch.float32
    assert bool(maps.isfinite().all())
    assert explainer.signed or bool((maps >= 0).all())
    assert not maps.requires_grad
    assert_same(before, state_of(classifier))


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_a_map_does_not_depend_on_its_neighbours(path: Path) -> None:
    explainer, classifier = explainer_of(path), small_cnn()
    images, targets = random_images(3, 32), torch.tensor([3, 7, 1])
    try:
        together = explainer(classifier, images, targets)
    except Incompatible:
        pytest.skip("refused on this network")
    alone = explainer(classifier, images[2:], targets[2:])
    torch.testing.assert_close(together[2:], alone, rtol=1e-3, atol=1e-5 * float(together.abs().max()) + 1e-8)


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_the_passes_equal_the_formula(path: Path) -> None:
    explainer, classifier = explainer_of(path), small_cnn()
    if isinstance(explainer, Occlusion):
        explainer = dataclasses.replace(explainer, incremental=False)  # else they are fewer
    formula = explainer.passes_per_image(size=32, classes=10)
    if formula is None:
        pytest.skip("not known beforehand")
    try:
        explainer(classifier, random_images(2, 32), torch.tensor([3, 7]))
    except Incompatible:
        pytest.skip("refused on this network")
    assert classifier.passes == Passes(2 * formula[0] + explainer.passes_per_call(), 2 * formula[1])


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_after_an_error_the_classifier_is_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explainer, classifier = explainer_of(path), small_cnn()
    before = state_of(classifier)

    def broken(features: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError

    monkeypatch.setattr(classifier.network.fc3, "forward", broken)
    images = random_images(2, 32)
    if explainer.passes_per_image(size=32, classes=10) == (0, 0):
        pytest.skip("never asks the network")
    with pytest.raises((ZeroDivisionError, Incompatible)):
        explainer(classifier, images, torch.tensor([3, 7]))
    assert_same(before, state_of(classifier))


@pytest.mark.parametrize(
    ("images", "targets", "words"),
    [
        (torch.rand(2, 1, 32, 32), torch.tensor([0, 1]), r"\[batch, 3, height, width\]"),
        (torch.rand(0, 3, 32, 32), torch.tensor([], dtype=torch.int64), "at least one image"),
        (torch.rand(2, 3, 32, 32), torch.tensor([0]), "targets must be 2"),
        (torch.rand(1, 3, 32, 32), torch.tensor([10]), "from 0 to 9"),
        (torch.full((1, 3, 32, 32), float("nan")), torch.tensor([1]), "NaN"),
    ],
)
def test_impossible_arguments_are_refused(images: torch.Tensor, targets: torch.Tensor, words: str) -> None:
    explainer = explainer_of(YAMLS[0].with_stem("saliency"))
    with pytest.raises(UserError, match=words):
        explainer(small_cnn(), images, targets)
