"""Every explainer on networks of one logit, of several labels and in a container: the right map, or a refusal by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from explainer_checks import REFUSED, YAMLS, explainer_of
from output_networks import classifier_of, take_logit, weigh_logit
from seewhy.core.errors import Incompatible
from seewhy.models.classifier import Classifier
from tiny import random_images

NONLINEAR = frozenset(
    (
        *("centre", "edges", "random"),  # never ask the network
        "eigen_cam",  # asks for no class
        *("saliency", "smooth_grad", "ig_smooth_grad_sq", "ig_var_grad"),  # absolute values or squares
        *("grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "score_cam", "ablation_cam"),  # rectified
        *("guided_grad_cam", "full_grad", "hsic"),  # rectified; absolute values; a dependence without a sign
        *("guided_backprop", "deconvolution"),  # rectify signals on their way
        "expert",  # takes the unit with the most influence
        "guided_ig",  # walks along the gradient
        *("xrai", "rise"),  # ranks of regions; probabilities
    )
)
"""Methods whose map of a difference is not the difference of the maps."""
IMAGES = random_images(2, 32)


every_explainer = pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)


def explain(path: Path, classifier: Classifier, targets: Any) -> Tensor | None:
    """The maps; None where this method refuses this network, which only the listed ones may."""
    if path.stem not in REFUSED:
        return explainer_of(path)(classifier, IMAGES, targets)
    with pytest.raises(Incompatible, match=REFUSED[path.stem]):
        explainer_of(path)(classifier, IMAGES, targets)
    return None


@pytest.mark.slow
@every_explainer
def test_one_logit_is_explained_as_two_logits_of_which_one_is_zero(path: Path) -> None:
    binary = classifier_of(take_logit, 2, "binary")
    pair = classifier_of(lambda y: torch.cat([0 * take_logit(y), take_logit(y)], 1), 2, "softmax")
    maps, expected = (explain(path, each, torch.tensor([1, 1])) for each in (binary, pair))
    if maps is not None:
        torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@every_explainer
def test_the_other_class_of_one_logit_is_its_opposite(path: Path) -> None:
    binary = classifier_of(take_logit, 2, "binary")
    negated = classifier_of(lambda y: -take_logit(y), 2, "binary")
    maps, expected = (explain(path, each, torch.tensor([index, index])) for each, index in ((binary, 0), (negated, 1)))
    if maps is not None:
        torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@every_explainer
def test_labels_are_explained_one_by_one(path: Path) -> None:
    """A label of several is the one logit of a binary network."""
    several = classifier_of(lambda y: torch.cat([take_logit(y), y[:, :4]], 1), 5, "sigmoid")
    binary = classifier_of(take_logit, 2, "binary")
    maps, expected = (explain(path, each, torch.tensor([index, index])) for each, index in ((several, 0), (binary, 1)))
    if maps is not None:
        torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@every_explainer
def test_scores_inside_of_a_container_are_explained_as_they_are(path: Path) -> None:
    plain = classifier_of(lambda y: y, 10, "softmax")
    held = classifier_of(lambda y: {"features": y[:, :5], "logits": y}, 10, "softmax")
    maps, expected = (explain(path, each, torch.tensor([3, 7])) for each in (held, plain))
    if maps is not None:
        torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-12)


@every_explainer
def test_the_map_of_a_contrast_is_that_of_the_difference_of_two_outputs(path: Path) -> None:
    """A network that gives the difference itself has the same map; of linear methods it is the difference of the maps."""
    classifier = classifier_of(lambda y: y, 10, "none")
    alone = classifier_of(take_logit, 1, "none")
    maps, expected = explain(path, classifier, weigh_logit()), explain(path, alone, torch.tensor([0, 0]))
    if maps is None:
        return
    torch.testing.assert_close(maps, expected, rtol=1e-7, atol=1e-10)
    if path.stem not in NONLINEAR:
        first, second = (explain(path, classifier, torch.tensor([index] * 2)) for index in (3, 7))
        assert first is not None
        assert second is not None
        torch.testing.assert_close(maps, 20 * (first - second), rtol=1e-7, atol=1e-9)
