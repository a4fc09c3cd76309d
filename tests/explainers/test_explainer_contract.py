"""What holds for every method: shapes, determinism, and a classifier that is left as it was."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf
from torch.nn import functional

from explainer_checks import YAMLS, assert_same, explainer_of, maps_of, state_of
from seewhy.core.errors import UserError
from seewhy.core.types import Targets
from seewhy.explainers.occlusion import Occlusion
from seewhy.models.classifier import Passes
from tiny import random_images, small_cnn


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_yaml_gives_a_map_and_leaves_nothing_behind(path: Path) -> None:
    explainer, classifier = explainer_of(path), small_cnn().float()
    assert explainer.name == path.stem
    images, targets = random_images(2, 32).float(), torch.tensor([3, 7])
    before = state_of(classifier)
    with torch.inference_mode():
        maps = maps_of(explainer, classifier, images, targets)
    assert maps.shape == (2, 32, 32)
    assert maps.dtype == torch.float32
    assert bool(maps.isfinite().all())
    assert explainer.signed or bool((maps >= 0).all())
    assert not maps.requires_grad
    assert_same(before, state_of(classifier))


FOR_ALONE = {"attention_gradient", "grad_cam", "grad_cam_plus_plus", "layer_cam", "rise", "score_cam", "xrai"}
FOR_ALONE |= {"ablation_cam", "hires_cam", "le_grad"}
MAGNITUDES = {"attention_rollout", "centre", "edges", "eigen_cam", "ig_smooth_grad_sq", "ig_var_grad"}
MAGNITUDES |= {"saliency", "smooth_grad", "full_grad", "hsic"}


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_what_the_values_of_a_map_say_is_written_down(path: Path) -> None:
    explainer = explainer_of(path)
    assert explainer.rectified == (path.stem in FOR_ALONE)
    assert explainer.signed == (path.stem not in FOR_ALONE | MAGNITUDES)


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_a_yaml_shows_every_parameter_with_its_default(path: Path) -> None:
    shown: Any = OmegaConf.to_container(OmegaConf.load(path))
    fields = {field.name: field.default for field in dataclasses.fields(get_class(shown.pop("_target_")))}
    missing = set(fields) - set(shown)
    assert set(shown) <= set(fields)
    assert not missing or "options" in shown
    assert missing <= {"layer", "baseline", "n_segments", "tolerance"}, "what one method of captum does not read"
    assert (shown.pop("seed"), shown.pop("probe_batch_size")) == ("${seed}", "${probe_batch_size}")
    shown.pop("explainer", None)  # the method inside a noise tunnel has no default
    if "options" in shown:  # what the methods of captum are
        for key in ("method", "options", "baseline"):
            shown.pop(key, None)
    if path.stem in ("ig_smooth_grad_sq", "ig_var_grad"):
        shown.pop("combine")  # what these two are
    for key, value in shown.items():
        assert (tuple(value) if isinstance(value, list) else value) == fields[key], key


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_a_map_does_not_depend_on_its_neighbours(path: Path) -> None:
    explainer, classifier = explainer_of(path), small_cnn()
    images, targets = random_images(3, 32), torch.tensor([3, 7, 1])
    together = maps_of(explainer, classifier, images, targets)
    alone = explainer(classifier, images[2:], targets[2:])
    torch.testing.assert_close(together[2:], alone, rtol=1e-3, atol=1e-5 * float(together.abs().max()) + 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_a_class_and_its_weight_alone_are_the_same_target(path: Path) -> None:
    explainer, classifier = explainer_of(path), small_cnn()
    images, targets = random_images(2, 32), torch.tensor([3, 7])
    maps = maps_of(explainer, classifier, images, targets)
    weights = Targets(functional.one_hot(targets, 10).float())
    torch.testing.assert_close(explainer(classifier, images, weights), maps)


@pytest.mark.slow
@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_the_passes_equal_the_formula(path: Path) -> None:
    explainer, classifier = explainer_of(path), small_cnn()
    if isinstance(explainer, Occlusion):
        explainer = dataclasses.replace(explainer, incremental=False)  # else they are fewer
    formula = explainer.passes_per_image(size=32, classes=10)
    if formula is None:
        pytest.skip("not known beforehand")
    maps_of(explainer, classifier, random_images(2, 32), torch.tensor([3, 7]))
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
    with pytest.raises(ZeroDivisionError):
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
