"""The edge control: central differences of the luminance by hand."""

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.explainers.controls import Edges
from seewhy.models.classifier import Passes
from tiny import linear_classifier, random_images

TARGETS = torch.tensor([0, 1])


def test_a_ramp_has_its_slope_inside() -> None:
    ramp = torch.arange(8, dtype=torch.float64) / 10
    red = torch.zeros(3, 8, 8, dtype=torch.float64)
    red[0] = ramp[None, :]
    both = (ramp[None, :] * 3 + ramp[:, None] * 4).expand(3, 8, 8) / 10
    maps = Edges(sigma=0)(linear_classifier()[0], torch.stack([red, both]), TARGETS)
    torch.testing.assert_close(maps[0, :, 1:-1], torch.full((8, 6), 0.299 * 0.1).double())
    torch.testing.assert_close(maps[1, 1:-1, 1:-1], torch.full((6, 6), 0.05).double())
    torch.testing.assert_close(maps[0, :, 0], torch.full((8,), 0.299 * 0.05).double())


def test_smoothing_lowers_noise_and_a_flat_image_has_no_edges() -> None:
    classifier, images = linear_classifier(32)[0], random_images(2, 32)
    sharp, smooth = (Edges(sigma=sigma)(classifier, images, TARGETS) for sigma in (0.0, 2.0))
    assert smooth.mean() < 0.3 * sharp.mean()
    assert torch.equal(Edges()(classifier, torch.full((1, 3, 32, 32), 0.5), TARGETS[:1]), torch.zeros(1, 32, 32))


def test_a_white_square_is_outlined() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 8:24, 8:24] = 1
    (edges,) = Edges(sigma=1)(linear_classifier(32)[0], image, TARGETS[:1])
    assert float(edges[16, 16]) == 0
    assert float(edges[0, 0]) == 0
    assert min(float(edges[8, 16]), float(edges[16, 23])) > 0.15


def test_it_never_asks_the_network() -> None:
    classifier = linear_classifier()[0]
    Edges()(classifier, random_images(2, 8), TARGETS)
    assert classifier.passes == Passes(*Edges().passes_per_image(size=8)) == Passes(0, 0)
    assert not Edges.signed


def test_a_negative_sigma_is_refused() -> None:
    with pytest.raises(UserError, match=r"explainer.sigma=-1"):
        Edges(sigma=-1)
