"""The centre control: a Gaussian at the middle by its formula, whatever the image and the network."""

import math

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.explainers.controls import Centre
from seewhy.models.classifier import Passes
from tiny import linear_classifier, random_images, small_cnn

TARGETS = torch.tensor([0, 1])


def test_every_value_is_that_of_the_formula() -> None:
    (values,) = Centre(sigma=3)(linear_classifier(9)[0], random_images(1, 9), TARGETS[:1]).double()
    expected = [[math.exp(-((y - 4) ** 2 + (x - 4) ** 2) / 18) for x in range(9)] for y in range(9)]
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-7)
    assert float(values[4, 4]) == 1


def test_an_even_side_has_its_middle_between_four_equal_pixels() -> None:
    (values,) = Centre()(linear_classifier(8)[0], random_images(1, 8), TARGETS[:1])
    middle = values[3:5, 3:5]
    assert (middle == middle[0, 0]).all()
    assert (values == middle[0, 0]).sum() == 4
    assert float(middle[0, 0]) == pytest.approx(math.exp(-0.5 / 8))
    for mirrored in (values.flip(0), values.flip(1), values.T):
        assert torch.equal(values, mirrored)


def test_the_width_is_a_quarter_of_the_side() -> None:
    classifier, images = linear_classifier(32)[0], random_images(1, 32)
    assert torch.equal(Centre()(classifier, images, TARGETS[:1]), Centre(sigma=8)(classifier, images, TARGETS[:1]))


def test_it_knows_neither_image_nor_network_nor_target_nor_seed() -> None:
    classifier = small_cnn()
    maps = Centre()(classifier, random_images(2, 32), TARGETS)
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(Centre(seed=7)(small_cnn(seed=5), torch.zeros(1, 3, 32, 32), TARGETS[1:]), maps[:1])
    assert classifier.passes == Passes(*Centre().passes_per_image(size=32)) == Passes(0, 0)
    assert not Centre.signed


def test_a_width_below_a_pixel_leaves_the_middle_alone() -> None:
    (values,) = Centre(sigma=1e-200)(linear_classifier(9)[0], random_images(1, 9), TARGETS[:1])
    assert float(values[4, 4]) == float(values.sum()) == 1


@pytest.mark.parametrize("sigma", [0, -1.0])
def test_a_width_of_nothing_is_refused(sigma: float) -> None:
    with pytest.raises(UserError, match=rf"explainer.sigma={sigma} must be a number above 0"):
        Centre(sigma=sigma)
