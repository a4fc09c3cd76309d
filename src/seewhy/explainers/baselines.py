"""Baselines by name, in image space: black is 0 and white is 1, whatever the network's normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.tensors import blur_gaussian
from seewhy.core.types import Images

BASELINES = ("black", "white", "grey", "mean", "blurred", "noise", "uniform")
RANDOM_BASELINES = ("noise", "uniform")
CONSTANT_BASELINES = {"black": 0.0, "white": 1.0, "grey": 0.5}
"""Those that are one value everywhere: the same beside every image."""


def check_baseline(name: str) -> None:
    """UserError that lists the names where `name` is none of them."""
    if name not in BASELINES:
        raise UserError(f"explainer.baseline={name!r} is none of {', '.join(BASELINES)}")


def build_baselines(name: str, images: Images, seed: int = 0) -> Images:
    """The image [batch, 3, height, width] in [0, 1] that stands for "nothing there" beside each image.

    `mean` is each image's own mean colour; `blurred` a Gaussian blur of an eighth of the shorter side; `noise` is
    normal around grey with standard deviation 0.1; `uniform` is uniform in [0, 1]. The random ones belong to
    (seed, image).
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
    """One draw of the baseline `noise` or `uniform`."""
    if name == "uniform":
        return torch.rand(shape, generator=generator, dtype=torch.float32)
    return (0.5 + 0.1 * torch.randn(shape, generator=generator, dtype=torch.float32)).clamp_(0, 1)
