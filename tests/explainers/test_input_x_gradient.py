"""Input x gradient against a linear network, a loop and Captum."""

import pytest
import torch

from seewhy.explainers.gradient import InputXGradient
from tiny import linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


def test_of_a_linear_network_it_is_weight_times_image() -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    images[0, :, 3, 4] = 0
    maps = InputXGradient(probe_batch_size=16)(classifier, images, targets)
    torch.testing.assert_close(maps, (weights[targets] * images).sum(1))
    assert maps[0, 3, 4] == 0


@pytest.mark.parametrize("probe_batch_size", [1, 3, 7])
def test_it_equals_the_loop(probe_batch_size: int) -> None:
    classifier, expected = small_cnn(), []
    for image, target in zip(IMAGES, TARGETS, strict=True):
        leaf = image[None].clone().requires_grad_()
        classifier(leaf)[0, target].backward()
        expected.append((image * leaf.grad[0]).sum(0))
    found = InputXGradient(probe_batch_size=probe_batch_size)(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-7)


def test_its_name_is_that_of_the_yaml() -> None:
    assert InputXGradient().name == "input_x_gradient"


def test_it_equals_captum() -> None:
    from captum import attr

    classifier = small_cnn()
    expected = attr.InputXGradient(classifier).attribute(IMAGES.clone().requires_grad_(), target=TARGETS).sum(1)
    found = InputXGradient(probe_batch_size=16)(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-7)
