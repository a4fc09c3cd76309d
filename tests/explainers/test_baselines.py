"""Baselines in image space."""

import pytest
import torch
from torchvision.transforms.v2 import functional

from seewhy.core.errors import UserError
from seewhy.core.tensors import blur_gaussian
from seewhy.explainers.baselines import BASELINES, RANDOM_BASELINES, build_baselines, draw_baseline
from tiny import random_images

IMAGES = random_images(3, 16).float()


@pytest.mark.parametrize("name", BASELINES)
def test_shape_range_and_independence_of_the_batch(name: str) -> None:
    baselines = build_baselines(name, IMAGES, seed=4)
    assert baselines.shape == IMAGES.shape
    assert baselines.dtype == torch.float32
    assert 0 <= float(baselines.min()) <= float(baselines.max()) <= 1
    torch.testing.assert_close(baselines.flip(0), build_baselines(name, IMAGES.flip(0), seed=4))
    torch.testing.assert_close(baselines[1:2], build_baselines(name, IMAGES[1:2], seed=4))


@pytest.mark.parametrize(("name", "value"), [("black", 0.0), ("white", 1.0), ("grey", 0.5)])
def test_constants_mean_what_they_say(name: str, value: float) -> None:
    assert torch.equal(build_baselines(name, IMAGES), torch.full_like(IMAGES, value))


def test_mean_is_each_images_own_colour() -> None:
    baselines = build_baselines("mean", IMAGES)
    for image, baseline in zip(IMAGES, baselines, strict=True):
        for channel in range(3):
            torch.testing.assert_close(baseline[channel], image[channel].mean().expand(16, 16))
    baselines[0, 0, 0, 0] = 7
    assert baselines[0, 0, 0, 1] != 7, "it can be written to"


def test_blurred_is_a_gaussian_of_an_eighth_of_the_shorter_side() -> None:
    picture = torch.zeros(1, 3, 64, 80)
    picture[:, :, 32, 40] = 1
    blurred = build_baselines("blurred", picture)[0, 0]
    row = blurred[:, 40] / blurred[:, 40].sum()
    spread = (row * (torch.arange(64) - 32.0) ** 2).sum().sqrt()
    assert 0.8 * 8 < float(spread) < 8, "the tails are cut after two standard deviations"
    assert float(blurred[32, 40] / blurred[32, 48]) == pytest.approx(torch.tensor(0.5).exp().item(), rel=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_blurred_works_on_the_smallest_images(size: tuple[int, int]) -> None:
    assert bool(build_baselines("blurred", torch.rand(1, 3, *size)).isfinite().all())


@pytest.mark.parametrize("name", RANDOM_BASELINES)
def test_random_ones_follow_the_seed_and_the_image(name: str) -> None:
    first, again = build_baselines(name, IMAGES, seed=1), build_baselines(name, IMAGES, seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, build_baselines(name, IMAGES, seed=2))
    assert not torch.equal(first[0], first[1])
    torch.manual_seed(5)
    state = torch.get_rng_state()
    build_baselines(name, IMAGES)
    assert torch.equal(state, torch.get_rng_state())


def test_random_ones_have_the_stated_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = draw_baseline("uniform", torch.Size((3, 100, 100)), generator)
    noise = draw_baseline("noise", torch.Size((3, 100, 100)), generator)
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(uniform.std()) == pytest.approx(12**-0.5, abs=0.005)
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(noise.std()) == pytest.approx(0.1, abs=0.003)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="baseline=zero must be black, white"):
        build_baselines("zero", IMAGES)


SHAPES = [((20, 33), (19, 7), 3.0), ((9, 9), (1, 9), 5.0), ((1, 4), (1, 3), 0.5)]


@pytest.mark.parametrize(("size", "window", "sigma"), SHAPES)
def test_the_blur_is_that_of_torchvision(size: tuple[int, int], window: tuple[int, int], sigma: float) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = functional.gaussian_blur(images, [window[1], window[0]], [sigma, sigma])
    torch.testing.assert_close(blur_gaussian(images, window, sigma), expected)
