"""Baselines by name, in image space: black is 0 and white is 1, whatever the network's normalisation."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from seewhy.core.errors import check_choice
from seewhy.core.random import seed_generator
from seewhy.core.settings import OneOf
from seewhy.core.tensors import blur_gaussian
from seewhy.core.types import Images

CONSTANT_BASELINES = {"black": 0.0, "white": 1.0, "grey": 0.5}
"""Baselines with one value everywhere: the same for every image."""
RANDOM_BASELINES = ("noise", "uniform")
BASELINES = (*CONSTANT_BASELINES, "mean", "blurred", *RANDOM_BASELINES)
Baseline = Annotated[str, OneOf(BASELINES)]


def check_baseline(name: str) -> None:
    """Raise UserError, which lists the names, where `name` is no baseline."""
    check_choice("explainer.baseline", name, BASELINES)


def build_baselines(name: str, images: Images, seed: int = 0) -> Images:
    """Build the image that stands for "nothing there" beside each image.

    Args:
        name: `black` (0), `white` (1), `grey` (0.5), `mean` (each image's mean colour), `blurred` (a Gaussian blur of an
            eighth of the shorter side), `noise` (normal around grey with standard deviation 0.1, clipped) or `uniform`
            (in [0, 1]).
        images: Float [batch, channels, height, width] in [0, 1].
        seed: Decides, together with each image, what is random.

    Returns:
        Baselines in [0, 1], of the shape of the images.

    Raises:
        UserError: `name` is none of these.
    """
    check_baseline(name)
    if name in CONSTANT_BASELINES:
        return torch.full_like(images, CONSTANT_BASELINES[name])
    if name == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images).clone()
    if name == "blurred":
        sigma = min(images.shape[2:]) / 8
        rows, columns = (min(2 * round(2 * sigma) + 1, 2 * ((side - 1) // 2) + 1) for side in images.shape[2:])
        return blur_gaussian(images, (rows, columns), sigma).clamp(0, 1)
    drawn = [draw_baseline(name, image.shape, seed_generator(seed, image, "baseline")) for image in images]
    return torch.stack(drawn).to(images)


def draw_baseline(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw the baseline `noise` or `uniform` in float32, with the shape of an image."""
    if name == "uniform":
        return torch.rand(shape, generator=generator, dtype=torch.float32)
    return (0.5 + 0.1 * torch.randn(shape, generator=generator, dtype=torch.float32)).clamp_(0, 1)
