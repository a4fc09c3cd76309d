"""Random numbers that depend on seed, pixels and purpose, and on nothing else."""

import torch

from seewhy.core.random import seed_generator
from tiny import random_images

IMAGE, OTHER = random_images(2, 8)


def draw(seed: int, image: torch.Tensor, stream: str) -> torch.Tensor:
    return torch.rand(4, generator=seed_generator(seed, image, stream))


def test_the_same_seed_image_and_purpose_draw_the_same_numbers() -> None:
    torch.manual_seed(1)
    first = draw(3, IMAGE, "noise")
    torch.manual_seed(2)
    assert torch.equal(draw(3, IMAGE.clone(), "noise"), first)
    assert torch.equal(draw(3, torch.stack([OTHER, IMAGE])[1], "noise"), first)
    assert torch.equal(draw(3, IMAGE.permute(1, 2, 0).contiguous().permute(2, 0, 1), "noise"), first)


def test_another_seed_image_or_purpose_draws_others() -> None:
    drawn = [draw(3, IMAGE, "noise"), draw(4, IMAGE, "noise"), draw(3, OTHER, "noise"), draw(3, IMAGE, "masks")]
    assert len({tuple(numbers.tolist()) for numbers in drawn}) == 4


def test_one_grey_level_of_one_pixel_makes_another_image() -> None:
    changed = IMAGE.clone()
    changed[0, 0, 0] = (changed[0, 0, 0] + 1 / 255) % 1
    assert not torch.equal(draw(3, changed, "noise"), draw(3, IMAGE, "noise"))


def test_a_rounding_error_makes_no_other_image() -> None:
    image = torch.tensor([0.0, 17.0, 255.0]).view(3, 1, 1).expand(3, 4, 4) / 255
    assert torch.equal(draw(0, image * (1 - 1e-6), "noise"), draw(0, image, "noise"))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    draw(3, IMAGE, "noise")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_numbers_are_the_same_on_every_machine() -> None:
    image = torch.linspace(0, 1, 48).view(3, 4, 4)
    assert seed_generator(0, image, "noise").initial_seed() == seed_generator(0, image.double(), "noise").initial_seed()
    assert seed_generator(0, torch.zeros(3, 2, 2), "noise").initial_seed() == 2396633568455307900
