"""Saliency against the weights of a linear network, a loop and Captum."""

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.explainers.gradient import Saliency
from tiny import linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


def slow_twin(reduction: str) -> torch.Tensor:
    classifier, maps = small_cnn(), []
    for image, target in zip(IMAGES, TARGETS, strict=True):
        leaf = image[None].clone().requires_grad_()
        classifier(leaf)[0, target].backward()
        gradient = leaf.grad[0]
        maps.append(gradient.abs().max(0).values if reduction == "max" else gradient.sum(0))
    return torch.stack(maps)


def test_of_a_linear_network_it_is_the_weight() -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    largest = Saliency(probe_batch_size=16)(classifier, images, targets)
    total = Saliency(reduction="sum", probe_batch_size=16)(classifier, images, targets)
    torch.testing.assert_close(largest, weights[targets].abs().amax(1))
    torch.testing.assert_close(total, weights[targets].sum(1))


@pytest.mark.parametrize("reduction", ["max", "sum"])
@pytest.mark.parametrize("probe_batch_size", [1, 3, 7])
def test_it_equals_the_loop(reduction: str, probe_batch_size: int) -> None:
    explainer = Saliency(reduction=reduction, probe_batch_size=probe_batch_size)
    torch.testing.assert_close(explainer(small_cnn(), IMAGES, TARGETS), slow_twin(reduction), rtol=1e-4, atol=1e-7)


def test_only_the_sum_is_signed() -> None:
    assert not Saliency().signed
    assert Saliency(reduction="sum").signed
    assert bool((Saliency(reduction="sum", probe_batch_size=4)(small_cnn(), IMAGES, TARGETS) < 0).any())


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(UserError, match="reduction=mean must be max or sum"):
        Saliency(reduction="mean")


def test_it_equals_captum() -> None:
    from captum import attr

    classifier = small_cnn()
    expected = attr.Saliency(classifier).attribute(IMAGES.clone().requires_grad_(), target=TARGETS).amax(1)
    found = Saliency(probe_batch_size=16)(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-7)
