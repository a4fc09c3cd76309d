"""Random movements against rolls, quarter turns and magnifications."""

import torch
from torch.nn import functional

from seewhy.analyses.synthesis.class_visualization import _turns, make_class_generator, move_images
from tiny import random_images


def generators(*indices: int) -> list[torch.Generator]:
    return [make_class_generator(0, index) for index in indices]


def test_jitter_alone_is_a_roll_within_its_bound() -> None:
    image = random_images(1, 8)
    seen = set()
    for index in range(200):
        (found,) = move_images(image, generators(index), 2)
        fits = [(d, r) for d in range(3) for r in range(3) if torch.equal(found, image[0].roll((d, r), (1, 2)))]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 9


def test_turns_and_magnifications_are_exact() -> None:
    image = random_images(1, 8).float()
    for drawn, turns in ((1.0, 1), (-1.0, -1), (0.0, 0)):
        grid = functional.affine_grid(_turns(torch.tensor([[drawn, 0.0]]), 90, 2.0), [1, 3, 8, 8], align_corners=False)
        found = functional.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
        torch.testing.assert_close(found, image.rot90(turns, (2, 3)), atol=1e-5, rtol=0)
    wide = functional.interpolate(image[:, :, 2:6, 2:6], scale_factor=2, mode="nearest")
    grid = functional.affine_grid(_turns(torch.tensor([[0.0, 1.0]]), 90, 2.0), [1, 3, 8, 8], align_corners=False)
    found = functional.grid_sample(image, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(found, wide)


def test_each_image_moves_by_its_own_generator() -> None:
    images = random_images(3, 16)
    together = move_images(images, generators(4, 5, 6), 3, rotation=10, scale=1.2)
    alone = move_images(images[1:2], generators(5), 3, rotation=10, scale=1.2)
    torch.testing.assert_close(together[1:2], alone)
    other = move_images(images[1:2], generators(7), 3, rotation=10, scale=1.2)
    assert not torch.allclose(alone, other, atol=1e-2)


def test_gradients_pass() -> None:
    images = random_images(1, 8).requires_grad_()
    move_images(images, generators(0), 3).square().sum().backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad, 2 * images.detach())
