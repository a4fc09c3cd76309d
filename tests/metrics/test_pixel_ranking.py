"""The order in which curves visit pixels, above all where attributions are equal."""

import torch
from torch import Tensor

from curve_twin import curved_classifier, make_context
from seewhy.metrics.perturbation_curves import rank_pixels
from tiny import random_images

TARGETS = torch.tensor([0, 2])


def test_equal_values_come_in_an_order_that_belongs_to_seed_and_image() -> None:
    images = random_images(2, 8)
    flat = torch.ones(2, 8, 8)

    def order(seed: int, chosen: Tensor) -> Tensor:
        return rank_pixels(
            make_context(curved_classifier(), chosen, TARGETS[: len(chosen)], flat[: len(chosen)], seed=seed)
        ).order

    first = order(0, images)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, order(1, images))
    assert torch.equal(first[1:], order(0, images[1:]))
    assert first[0].tolist() not in (list(range(64)), list(range(64))[::-1])
    half = torch.arange(64).view(1, 8, 8) // 32
    split = rank_pixels(make_context(curved_classifier(), images[:1], TARGETS[:1], half)).order[0]
    assert set(split[:32].tolist()) == set(range(32, 64))
    in_upper_half = first[0][first[0] >= 32]
    assert torch.equal(split[:32], in_upper_half)
